"""Select the attacks of a run by its threat model."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mimia.attacks.base import Attack, Requirements
from mimia.attacks.registry import ATTACKS, make_attack
from mimia.config.families import FAMILIES
from mimia.models.registry import family_named
from mimia.runtime.errors import MimiaError
from mimia.signals.arrays import ACCESS_LEVELS, AccessLevel
from mimia.signals.base import DecoderUse
from mimia.signals.registry import SIGNALS

ALL = "all"
DEFAULTS: dict[AccessLevel, tuple[str, ...]] = {
    "decoder": ("threshold", "calibrated", "ensemble"),
    "encoder": ("threshold", "calibrated", "ensemble-encoder"),
    "embeddings": ("similarity", "similarity-calibrated", "ensemble-embeddings"),
}


@dataclass(frozen=True)
class ThreatModel:
    """What the adversary of a run has.

    Attributes:
        access: Access level to the target.
        shadows: Number of shadow models.
        references: Number of further models that saw none of the images.
        online: Number of shadow models that are trained on halves of the images that are evaluated.
        family: Family of the shadows, and of a target that is a model: it declares what decoders its encoders get.
        fitting: Whether decoders are fitted to the encoders.
    """

    access: AccessLevel
    shadows: int
    online: int
    family: str
    fitting: bool = False
    references: int = 0


def decoders_of(family: str) -> frozenset[DecoderUse]:
    """Return what decoders can be put on an encoder of a family.

    >>> sorted(decoders_of("mae")), sorted(decoders_of("beit"))
    (['latents', 'reconstruction'], ['reconstruction'])
    """
    interface = family_named(family).decoder
    if interface is None:
        return frozenset()
    return frozenset({"reconstruction", "latents"} if interface.predicts_latents else {"reconstruction"})


def access_of(requirements: Requirements) -> AccessLevel:
    """Return the lowest access level at which all signals of an attack can be computed.

    >>> access_of(Requirements(signals=("view_similarity", "reconstruction"), shadows=2))
    'encoder'
    """
    return max((SIGNALS.find(name).access for name in requirements.signals), key=ACCESS_LEVELS.index)


def uses_decoder(requirements: Requirements) -> bool:
    """Return whether a signal of an attack depends on the decoder that reconstructs.

    >>> uses_decoder(Requirements(signals=("view_similarity", "reconstruction"), shadows=2))
    True
    """
    return "reconstruction" in _decoders(requirements)


def _decoders(requirements: Requirements) -> set[DecoderUse]:
    return {SIGNALS[name].decoder for name in requirements.signals} - {"none"}


def obstacle(attack: Attack, threat_model: ThreatModel) -> str | None:
    """Return why an attack cannot be run, or None if it can.

    >>> one_shadow = ThreatModel("decoder", shadows=1, online=0, family="mae")
    >>> obstacle(make_attack("calibrated"), one_shadow)
    'needs 2 shadow models and has 1: raise shadows.count'
    """
    requirements = attack.requirements
    access = access_of(requirements)
    if ACCESS_LEVELS.index(access) > ACCESS_LEVELS.index(threat_model.access):
        return f"needs the target's {access}, and this run has the {threat_model.access} alone: pass a target with it"
    lacking = _lacking_decoder(_decoders(requirements), threat_model)
    if lacking is not None:
        return lacking
    if requirements.online and threat_model.online < requirements.shadows:
        return (
            f"needs {requirements.shadows} models that are trained on halves of the evaluated images and has "
            f"{threat_model.online}: set shadows.online to {requirements.shadows} or more"
        )
    return None if requirements.online else _missing_models(attack, threat_model)


def _missing_models(attack: Attack, threat_model: ThreatModel) -> str | None:
    """Return which models an attack lacks that is not online, or None if it lacks none."""
    needed, shadows, references = attack.requirements.shadows, threat_model.shadows, threat_model.references
    # References are no shadows to learn from. One shadow takes the target's place; without shadows, nothing does.
    there = shadows if attack.learns else shadows + references + (shadows == 0)
    return None if there >= needed else f"needs {needed} shadow models and has {shadows}: raise shadows.count"


def _lacking_decoder(needed: Collection[DecoderUse], threat_model: ThreatModel) -> str | None:
    """Return why a run lacks one of the decoders that are needed, or None if it has all."""
    family, there = threat_model.family, decoders_of(threat_model.family)
    if "latents" in needed and "latents" not in there:
        takers = " and ".join(name for name in FAMILIES if "latents" in decoders_of(name))
        return (
            f"needs a decoder of the encoder's latents, which is made for {takers} alone and not for {family}: run it "
            "on another target"
        )
    if "latents" in needed and not threat_model.fitting:
        return "needs a decoder that is fitted to the encoder: set decoder.source to fitted (--decoder)"
    if "reconstruction" in needed and threat_model.access == "encoder" and not there:
        return f"needs a decoder, and the family {family} declares none for an encoder: pass a target with its own"
    return None


def select(
    names: Sequence[str] | None, threat_model: ThreatModel, options: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[dict[str, Attack], dict[str, str]]:
    """Select the attacks of a run.

    Args:
        names: As the settings have them: None for the defaults of the access level, without shadows those that can be
            run; ``all`` for each that can be run.
        threat_model: The adversary of the run.
        options: Hyper-parameters by attack, as the settings have them.

    Returns:
        The attacks by name, and the reason why each other one is not run.

    Raises:
        MimiaError: A name is unknown or given twice, there is none, ``all`` is not alone, a named attack cannot be run,
            or an attack has no such hyper-parameter.
    """
    options = options or {}
    made = {name: make_attack(name, changes) for name, changes in options.items()}
    chosen = DEFAULTS[threat_model.access] if names is None else tuple(names)
    everything = chosen == (ALL,)
    if ALL in chosen and not everything:
        raise MimiaError(f"{ALL!r} selects every attack that can be run: name no other with it.")
    if not chosen or len({*chosen}) != len(chosen):
        raise MimiaError(
            f"attacks.names must have at least one attack, and each once: `mimia attacks` lists them, and {ALL!r} "
            "selects each that can be run."
        )
    attacks = {name: made.get(name) or make_attack(name) for name in (ATTACKS if everything else chosen)}
    obstacles = {name: obstacle(attack, threat_model) for name, attack in attacks.items()}
    refused = {name: reason for name, reason in obstacles.items() if reason is not None}
    reduced = names is None and threat_model.shadows == 0
    if refused and not (everything or reduced):
        name, lack = next(iter(refused.items()))
        raise MimiaError(f"The attack {name!r} {lack}, or leave it out of attacks.names (--attacks).")
    not_run = {name: "It was not selected." for name in ATTACKS if name not in attacks}
    not_run |= {name: f"It {lack}." for name, lack in refused.items()}
    return {name: attack for name, attack in attacks.items() if name not in refused}, not_run


def attack_table() -> list[dict[str, str]]:
    """Return the requirements of each attack, one row for each.

    >>> attack_table()[0]["access"]
    'encoder'
    """
    rows = []
    for name in ATTACKS:
        attack = make_attack(name)
        requirements = attack.requirements
        rows.append(
            {
                "attack": name,
                "access": f"{access_of(requirements)}{_families(requirements)}",
                "shadows": f"{requirements.shadows}{' online' if requirements.online else ''}",
                "population": "yes" if requirements.population else "no",
                "signals": ", ".join(requirements.signals),
                "paper": attack.paper,
            }
        )
    return rows


def _families(requirements: Requirements) -> str:
    """Return in brackets the families whose encoders alone an attack can be run on; nothing if it is all of them."""
    fitting = [name for name in FAMILIES if _decoders(requirements) <= decoders_of(name)]
    return "" if len(fitting) == len(FAMILIES) else f" ({', '.join(fitting)})"


def signal_table() -> list[dict[str, str]]:
    """Return access level, queries and description of each signal, one row for each."""
    return [
        {"signal": name, "access": signal.access, "queries of an image": signal.queries, "summary": signal.summary}
        for name, signal in SIGNALS.items()
    ]
