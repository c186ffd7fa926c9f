"""Which attacks a run can make, and why it cannot make the others."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mimia.attacks.base import Attack, Needs
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.errors import MimiaError
from mimia.signals.base import ACCESS_LEVELS, AccessLevel
from mimia.signals.registry import KINDS

ALL = "all"
DEFAULTS: dict[AccessLevel, tuple[str, ...]] = {
    "decoder": ("threshold", "calibrated", "ensemble"),
    "encoder": ("threshold", "calibrated", "ensemble-encoder"),
    "embeddings": ("similarity", "similarity-calibrated", "ensemble-embeddings"),
}


@dataclass(frozen=True)
class Offer:
    """What a run has to give to attacks.

    Attributes:
        access: Access level to the target.
        shadows: Number of shadow models.
        online: Number of models that are trained on halves of the images that are judged.
        fitting: Whether decoders are fitted to the encoders.
    """

    access: AccessLevel
    shadows: int
    online: int
    fitting: bool = False


def access_of(needs: Needs) -> AccessLevel:
    """Give the lowest access level at which all signals can be had.

    >>> access_of(Needs(signals=("similarities", "distances"), shadows=2))
    'encoder'
    """
    return max((KINDS[kind].access for kind in needs.signals), key=ACCESS_LEVELS.index)


def obstacle(needs: Needs, offer: Offer) -> str | None:
    """Say what an attack lacks, or None if it can be run.

    >>> obstacle(Needs(signals=("distances",), shadows=2), Offer("decoder", shadows=1, online=0))
    'needs 2 shadow models and has 1: raise shadows.count'
    """
    access = access_of(needs)
    if ACCESS_LEVELS.index(access) > ACCESS_LEVELS.index(offer.access):
        return f"needs the target's {access}, and this run has the {offer.access} alone: give a target with it"
    if "latents" in needs.signals and not offer.fitting:
        return "needs a decoder that is fitted to the encoder: set decoder.source to fitted (--decoder)"
    if needs.online and offer.online < needs.shadows:
        return (
            f"needs {needs.shadows} models that are trained on halves of the images in question and has "
            f"{offer.online}: set shadows.online to {needs.shadows} or more"
        )
    if not needs.online and offer.shadows < needs.shadows:
        return f"needs {needs.shadows} shadow models and has {offer.shadows}: raise shadows.count"
    return None


def select(names: Sequence[str] | None, offer: Offer) -> tuple[dict[str, Attack], dict[str, str]]:
    """Choose the attacks of a run.

    Args:
        names: As the settings have them: None for the defaults of the access level, ``all`` for each that can be run.
        offer: What the run has.

    Returns:
        The attacks by name, and why each other one is not run.

    Raises:
        MimiaError: A name is unknown or stands twice, there is none, ``all`` is not alone, or an attack that is named
            cannot be run.
    """
    chosen = DEFAULTS[offer.access] if names is None else tuple(names)
    everything = chosen == (ALL,)
    if ALL in chosen and not everything:
        raise MimiaError(f"{ALL!r} stands for every attack that can be run: name no other with it.")
    if not chosen or len({*chosen}) != len(chosen):
        raise MimiaError(
            f"attacks.names must have at least one attack, and each once: `mimia attacks` lists them, and {ALL!r} runs "
            "each that can be run."
        )
    attacks = {name: make_attack(name) for name in (ATTACKS if everything else chosen)}
    obstacles = {name: obstacle(attack.needs, offer) for name, attack in attacks.items()}
    refused = {name: reason for name, reason in obstacles.items() if reason is not None}
    if refused and not everything:
        name, lack = next(iter(refused.items()))
        raise MimiaError(f"The attack {name!r} {lack}, or leave it out of attacks.names (--attacks).")
    not_run = {name: "It was not asked for." for name in ATTACKS if name not in attacks}
    not_run |= {name: f"It {lack}." for name, lack in refused.items()}
    return {name: attack for name, attack in attacks.items() if name not in refused}, not_run


def deciding(names: Sequence[str] | None, access: AccessLevel, run: Collection[str]) -> str:
    """Name the attack that decides where one has to: the last that is named, or the last default that was run.

    >>> deciding(("all",), "decoder", ("threshold", "ensemble", "gradient"))
    'ensemble'
    """
    if names is not None and tuple(names) != (ALL,):
        return names[-1]
    return next(name for name in reversed(DEFAULTS[access]) if name in run)


def overview() -> list[dict[str, str]]:
    """Tell what each attack needs, a row an attack.

    >>> overview()[0]["access"]
    'encoder'
    """
    rows = []
    for name in ATTACKS:
        attack = make_attack(name)
        needs = attack.needs
        rows.append(
            {
                "attack": name,
                "access": access_of(needs),
                "shadows": f"{needs.shadows}{' online' if needs.online else ''}",
                "known non-members": "yes" if needs.known else "no",
                "signals": ", ".join(needs.signals),
                "paper": attack.paper,
            }
        )
    return rows


def signals_overview() -> list[dict[str, str]]:
    """Tell what each kind of signals is and takes, a row a kind."""
    return [
        {"signals": name, "access": kind.access, "asks of an image": kind.asks, "are": kind.summary}
        for name, kind in KINDS.items()
    ]
