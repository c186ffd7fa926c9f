"""The number of attention heads of somebody else's model, which no weight shows."""

import math

from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.provenance import Fact, UnknownFact
from mimia.models.sizes import divisors
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_HEADS = {192: 3, 384: 6, 512: 16, 768: 12, 1024: 16, 1280: 16}  # of released models, by their width
_USUAL_HEAD_WIDTH = 64
_HEAD_WIDTHS = range(8, 129)


def attention_heads(facts: CheckpointFacts, name: str, width: int, *, visible: bool) -> int:
    """Return the number of attention heads: the known one, or the likeliest, which is then an open fact.

    Args:
        facts: What is known of the model.
        name: ``heads`` or ``decoder_heads``.
        width: What is split into heads.
        visible: Whether reconstructions show which number is right, as those of a whole model do.

    Raises:
        MimiaError: The number does not fit, or nothing says it and no released model is like it.
    """
    known = facts.stated(name)
    flag = f"--set checkpoint.{name}=N"
    if known is None:
        known = _likely_heads(facts, name, width, flag, visible=visible)
    if not isinstance(known, int) or known < 1 or width % known:
        raise MimiaError(f"{shortened(repr(known))} heads do not divide a width of {width}: correct {flag}.")
    return known


def _likely_heads(facts: CheckpointFacts, name: str, width: int, flag: str, *, visible: bool) -> int:
    released = _HEADS.get(width)
    possible = [heads for heads in divisors(width) if width // heads in _HEAD_WIDTHS]
    if released is None and not (visible and possible):
        raise MimiaError(
            f"{facts.path} does not say how many attention heads a width of {width} is split into, and no weight "
            f"shows it: pass {flag}."
        )
    likeliest = released or min(possible, key=lambda heads: abs(math.log2(width / heads / _USUAL_HEAD_WIDTH)))
    usual = f"at the usual {_USUAL_HEAD_WIDTH} values a head"
    reason = usual if released is None else f"as released models of width {width} have it"
    facts.facts[name] = Fact(likeliest, "assumed", f"{name} = {likeliest}, {reason}; no weight shows it")
    if visible:
        candidates = {str(heads): heads for heads in (likeliest, *possible)}
        facts.unknown.append(UnknownFact(name, candidates, flag, has_default=released is not None))
    return likeliest
