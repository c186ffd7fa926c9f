"""Defences: what protects training images in the training itself. Each is a file here and a line in the registry."""

from mimia.pretraining.defences.cross_fitting import CrossFitting
from mimia.pretraining.defences.deduplicate import Deduplicate
from mimia.pretraining.defences.dp_sgd import DPSGD
from mimia.pretraining.defences.early_stopping import EarlyStopping
from mimia.pretraining.defences.ema import EMA

__all__ = ["DPSGD", "EMA", "CrossFitting", "Deduplicate", "EarlyStopping"]
