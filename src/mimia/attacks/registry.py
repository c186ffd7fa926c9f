"""All attacks by name."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from mimia.attacks.base import Attack
from mimia.attacks.hyperparameters import validated
from mimia.runtime.errors import MimiaError
from mimia.runtime.registry import Registry

ATTACKS: Registry[Callable[..., Attack]] = Registry(
    "attack",
    "mimia.attacks",
    {
        "threshold": "mimia.attacks.threshold:Threshold",
        "calibrated": "mimia.attacks.calibrated:Calibrated",
        "calibrated-difference": "mimia.attacks.calibrated:DIFFERENCE",
        "base": "mimia.attacks.bayes:BASE",
        "rmia": "mimia.attacks.rmia:RMIA",
        "rmia-online": "mimia.attacks.rmia:ONLINE",
        "lira": "mimia.attacks.lira:UNPOOLED",
        "lira-pooled": "mimia.attacks.lira:LiRA",
        "lira-online": "mimia.attacks.lira:ONLINE",
        "lira-online-pooled": "mimia.attacks.lira:ONLINE_POOLED",
        "bavaria": "mimia.attacks.bavaria:BaVarIA",
        "bavaria-online": "mimia.attacks.bavaria:ONLINE",
        "quantile": "mimia.attacks.quantile:QuantileRegression",
        "predictability": "mimia.attacks.predictability:Predictability",
        "ensemble": "mimia.attacks.ensemble:Ensemble",
        "gradient": "mimia.attacks.threshold:GRADIENTS",
        "gradient-calibrated": "mimia.attacks.calibrated:GRADIENTS",
        "ensemble-white-box": "mimia.attacks.ensemble:WHITE_BOX",
        "similarity": "mimia.attacks.threshold:VIEW_SIMILARITY",
        "similarity-calibrated": "mimia.attacks.calibrated:VIEW_SIMILARITY",
        "encodermi-v": "mimia.attacks.encodermi:EncoderMI",
        "encodermi-s": "mimia.attacks.encodermi:SET",
        "encodermi-t": "mimia.attacks.threshold:CROP_SIMILARITY",
        "partcrop": "mimia.attacks.partcrop:PartCrop",
        "mixture": "mimia.attacks.mixture:Mixture",
        "dov4mm": "mimia.attacks.threshold:LATENTS",
        "dov4mm-calibrated": "mimia.attacks.calibrated:LATENTS",
        "ensemble-embeddings": "mimia.attacks.ensemble:EMBEDDINGS",
        "ensemble-encoder": "mimia.attacks.ensemble:ENCODER",
    },
)
"""Classes of attacks, and variants of them with other hyper-parameters (`functools.partial`)."""


def make_attack(name: str, options: Mapping[str, Any] | None = None) -> Attack:
    """Return an attack with some hyper-parameters changed.

    Args:
        name: Name in the registry.
        options: Hyper-parameters by name, as settings have them.

    Raises:
        MimiaError: There is no attack of this name, or it has no such hyper-parameter or does not take its value.
    """
    if name not in ATTACKS:
        raise MimiaError(f"There is no attack {name!r}: `mimia attacks` lists those there are.")
    make = ATTACKS[name]
    declared = make.func if isinstance(make, partial) else make
    attack = make(**validated(name, declared, options or {}))
    attack.name = name
    return attack
