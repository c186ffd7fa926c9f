"""All attacks by their names."""

from mimia.attacks.base import Attack
from mimia.attacks.calibrated import Calibrated
from mimia.attacks.threshold import Threshold
from mimia.errors import MimiaError

ATTACKS: dict[str, type[Attack]] = {attack.name: attack for attack in (Threshold, Calibrated)}


def make_attack(name: str) -> Attack:
    """Make an attack with its default hyper-parameters.

    Raises:
        MimiaError: There is none of this name.
    """
    if name not in ATTACKS:
        raise MimiaError(f"There is no attack {name!r}: choose from {', '.join(ATTACKS)}.")
    return ATTACKS[name]()
