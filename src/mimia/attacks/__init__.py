"""Membership inference attacks.

Plain arrays suffice, and attacks that are fitted on `ShadowSignals` take an `AttackInput`:

>>> import numpy as np
>>> from mimia.attacks import Calibrated
>>> losses = np.array([[1.0, 2.0, 3.0], [1.4, 2.0, 2.4]])  # of two shadows on three images
>>> membership = np.array([[True, False, False], [False, False, True]])
>>> Calibrated(scale="difference").fit(losses, membership).score(np.array([0.9, 2.0, 2.5]))
array([0.5, 0. , 0.5])
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimia.attacks.base import Attack
    from mimia.attacks.bavaria import BaVarIA
    from mimia.attacks.bayes import BASE
    from mimia.attacks.calibrated import Calibrated
    from mimia.attacks.encodermi import EncoderMI
    from mimia.attacks.ensemble import Ensemble
    from mimia.attacks.lira import LiRA
    from mimia.attacks.mixture import Mixture
    from mimia.attacks.partcrop import PartCrop
    from mimia.attacks.predictability import Predictability
    from mimia.attacks.quantile import QuantileRegression
    from mimia.attacks.registry import make_attack
    from mimia.attacks.rmia import RMIA
    from mimia.attacks.threshold import Threshold

__all__ = [
    "BASE",
    "RMIA",
    "Attack",
    "BaVarIA",
    "Calibrated",
    "EncoderMI",
    "Ensemble",
    "LiRA",
    "Mixture",
    "PartCrop",
    "Predictability",
    "QuantileRegression",
    "Threshold",
    "make_attack",
]

_MODULES = {
    "BASE": "bayes",
    "Attack": "base",
    "QuantileRegression": "quantile",
    "make_attack": "registry",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES.get(name, name.lower())}"), name)


def __dir__() -> list[str]:
    return __all__
