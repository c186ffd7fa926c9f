"""Directories of timm: a file with the names of the official MAE, and the pixel statistics in ``config.json``."""

from collections.abc import Mapping
from typing import Any

from mimia.config import CheckpointSettings
from mimia.encoders.checkpoints import official_mae
from mimia.encoders.checkpoints.reading import Facts, Reading
from mimia.encoders.checkpoints.safe import Contents


def read(contents: Contents, config: Mapping[str, Any], given: CheckpointSettings) -> Reading:
    """Read a directory of timm, of which only Vision Transformers are known (``vit_*.mae``).

    Args:
        contents: Of the file of the weights.
        config: Content of ``config.json``.
        given: What the settings say.

    Raises:
        MimiaError: It is another model, or a supervised one.
    """
    pixels = config.get("pretrained_cfg", {})
    said = {"mean": pixels.get("mean"), "std": pixels.get("std")}
    facts = Facts(contents.path, contents.state, said, given)
    return official_mae.read_facts(facts, f"timm {config['architecture']}, MAE")
