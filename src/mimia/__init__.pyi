from . import attacks, metrics
from .config.recipes import Recipe
from .config.settings import Settings
from .data.imageset import ImageSet
from .data.loading import load_images
from .jobs.audit import audit
from .jobs.infer import infer
from .jobs.results import AuditResult, InferenceResult
from .models.base import MaskedImageModel
from .models.checkpoints.loading import load_model
from .pretraining import defences
from .pretraining.interface import pretrain
from .runtime.errors import MimiaError
from .signals.api import extract_signals

__version__: str
__all__ = [
    "AuditResult",
    "ImageSet",
    "InferenceResult",
    "MaskedImageModel",
    "MimiaError",
    "Recipe",
    "Settings",
    "attacks",
    "audit",
    "defences",
    "extract_signals",
    "infer",
    "load_images",
    "load_model",
    "metrics",
    "pretrain",
]
