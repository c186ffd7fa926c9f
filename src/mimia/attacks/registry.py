"""All attacks by their names."""

from collections.abc import Callable
from functools import partial

from mimia.attacks.base import Attack
from mimia.attacks.bavaria import Bavaria
from mimia.attacks.bayes import Base
from mimia.attacks.calibrated import Calibrated
from mimia.attacks.encodermi import EncoderMi
from mimia.attacks.ensemble import Ensemble
from mimia.attacks.lira import Lira
from mimia.attacks.mixture import Mixture
from mimia.attacks.partcrop import PartCrop
from mimia.attacks.predictability import Predictability
from mimia.attacks.quantile import QuantileRegression
from mimia.attacks.rmia import Rmia
from mimia.attacks.threshold import Threshold
from mimia.errors import MimiaError

ATTACKS: dict[str, Callable[[], Attack]] = {
    "threshold": Threshold,
    "calibrated": Calibrated,
    "calibrated-difference": partial(Calibrated, scale="difference"),
    "base": Base,
    "rmia": Rmia,
    "rmia-online": partial(Rmia, online=True),
    "lira": partial(Lira, pooled=False),
    "lira-pooled": Lira,
    "lira-online": partial(Lira, online=True, pooled=False),
    "lira-online-pooled": partial(Lira, online=True),
    "bavaria": Bavaria,
    "bavaria-online": partial(Bavaria, online=True),
    "quantile": QuantileRegression,
    "predictability": Predictability,
    "ensemble": Ensemble,
    "gradient": partial(Threshold, "gradients"),
    "gradient-calibrated": partial(Calibrated, "gradients"),
    "ensemble-white-box": partial(Ensemble, ("distances", "surroundings", "gradients")),
    "similarity": partial(Threshold, "similarities"),
    "similarity-calibrated": partial(Calibrated, "similarities"),
    "encodermi-v": EncoderMi,
    "encodermi-s": partial(EncoderMi, "set"),
    "encodermi-t": partial(Threshold, "views"),
    "partcrop": PartCrop,
    "mixture": Mixture,
    "dov4mm": partial(Threshold, "latents"),
    "dov4mm-calibrated": partial(Calibrated, "latents"),
    "ensemble-embeddings": partial(Ensemble, ("similarities", "ratios", "views")),
    "ensemble-encoder": partial(Ensemble, ("distances", "surroundings", "similarities", "ratios", "views")),
}


def make_attack(name: str) -> Attack:
    """Make an attack with its default hyper-parameters.

    Raises:
        MimiaError: There is none of this name.
    """
    if name not in ATTACKS:
        raise MimiaError(f"There is no attack {name!r}: `mimia attacks` lists those there are.")
    attack = ATTACKS[name]()
    attack.name = name
    return attack
