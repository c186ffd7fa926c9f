"""Find out by the pixels what a checkpoint does not say: the right choice reconstructs images best.

Each choice is a model of the same weights with one candidate for each unknown fact. All reconstruct the same images
under the same masks. From a likely choice, one fact after the other is given its best candidate, until no change makes
the error smaller. Then each fact is settled on more and more images: a candidate is given up as soon as its error is
plainly larger than the best one's. How far the next one was behind says how clear the answer is.

Membership is not used here, so that members and non-members are treated alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from mimia.data.channel_statistics import pixel_statistics
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.channel_order import reversed_colours
from mimia.models.checkpoints.loading import LoadedCheckpoint
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.provenance import Fact, UnknownFact
from mimia.models.checkpoints.strict import build_for
from mimia.models.relative_error import ReconstructionErrors, reconstruction_errors
from mimia.runtime.arrays import Floats
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import progress

MOST_IMAGES = 2048
"""Images that are looked at where candidates are nearly equal."""
_FEWEST = 16  # images, below which no difference is clear
_FIRST = 64  # images, on which the best choice is looked for; each further look doubles their number
_MOST_DRAWS = 16  # masks of each image, where all images do not suffice
_ENOUGH = 512  # images, where a candidate may be assumed if the pixels do not say
_CLEAR = 4.0  # standard errors by which the mean log-error of a candidate is larger when it is given up
_TINY = 1e-12
_NEGLIGIBLE = 0.01  # relative difference of errors at which pixel statistics are as good as each other
_OWN = "the images' own"
_ORDER = ("target_space", "decoder_heads", "heads", "statistics", "channel_order")
"""Unknown facts, those first whose wrong answer does most harm."""

_OF_PIXELS = {"statistics", "channel_order"}

_Choice = tuple[tuple[str, str], ...]  # name of the candidate for each unknown fact


class _Look(NamedTuple):
    """How many images are looked at, and under how many masks each."""

    images: int
    draws: int = 1


@dataclass
class _Choices:
    """All choices of a checkpoint, and their errors on the first of some images.

    Attributes:
        parsed: The checkpoint.
        unknown: What is not known, by name.
        images: What is reconstructed.
        compute: Device.
    """

    parsed: ParsedCheckpoint
    unknown: Mapping[str, UnknownFact]
    images: ImageSet
    compute: ComputeSettings
    _errors: dict[tuple[_Choice, int], ReconstructionErrors] = field(default_factory=dict)

    def errors(self, choice: _Choice, look: _Look, name: str) -> Floats:
        """Return the logarithms of a choice's errors, by which a fact is settled: (images of the look,).

        They are those of the training, relative to an uninformed prediction. But pixel statistics decide over what is
        predicted: choices that differ in these are compared in raw pixels.
        """
        logarithms = []
        for draw in range(look.draws):
            found = self.of_draw(choice, look.images, draw)
            values = found.squared if name in _OF_PIXELS else found.own / found.uninformed.mean()
            logarithms.append(np.log(values + _TINY))
        mean: Floats = np.mean(logarithms, axis=0)
        return mean

    def of_draw(self, choice: _Choice, count: int, draw: int = 0) -> ReconstructionErrors:
        """Return the errors of a choice on the first images under one mask each."""
        held = self._errors.get((choice, draw), ReconstructionErrors(*[np.empty(0)] * 3))
        if len(held.own) < count:
            rest = self.images.take(np.arange(len(held.own), count))
            found = reconstruction_errors(_model_of(self.read_as(choice)), rest, self.compute, draw=draw)
            both = (np.concatenate(pair) for pair in zip(held, found, strict=True))
            held = self._errors[choice, draw] = ReconstructionErrors(*both)
        return ReconstructionErrors(*(values[:count] for values in held))

    def read_as(self, choice: _Choice) -> ParsedCheckpoint:
        """Return the checkpoint with a candidate for each unknown fact."""
        parsed = self.parsed
        for name, candidate in choice:
            parsed = _read_as(parsed, name, self.unknown[name].candidates[candidate])
        return parsed

    def variants(self, choice: _Choice, name: str) -> dict[str, _Choice]:
        """Return the choices that differ in one fact, by their candidates."""
        return {
            candidate: tuple((each, candidate if each == name else chosen) for each, chosen in choice)
            for candidate in self.unknown[name].candidates
        }


def identify(loaded: LoadedCheckpoint, images: ImageSet, compute: ComputeSettings) -> LoadedCheckpoint:
    """Return a checkpoint whose unknown facts are settled by how well each candidate reconstructs some images.

    Args:
        loaded: Any checkpoint; one without a decoder is returned as it is.
        images: Of its size, in random order.
        compute: Device.

    Raises:
        MimiaError: No candidate is clearly best, and none may be assumed.
    """
    parsed = loaded.parsed
    if parsed is None or not parsed.unknown or not loaded.model.has_decoder:
        return loaded
    images = images.take(np.arange(min(len(images), MOST_IMAGES)))
    by_name = {each.name: each for each in sorted(parsed.unknown, key=lambda each: _ORDER.index(each.name))}
    if "statistics" in by_name:
        by_name["statistics"] = _with_own_statistics(by_name["statistics"], images)
    choices = _Choices(parsed, by_name, images, compute)
    with progress("finding what the file lacks", 2 * len(by_name)) as advance:
        choice = _best(choices)
        advance(len(by_name))
        answered: dict[str, Fact] = {}
        for unknown in by_name.values():
            choice, facts = _settle(choices, choice, unknown)
            answered |= facts
            advance(1)
    parsed = replace(choices.read_as(choice), facts={**parsed.facts, **answered}, unknown=())
    return replace(loaded, parsed=parsed, model=_model_of(parsed))


def _best(choices: _Choices) -> _Choice:
    """Return the choice that no change of one candidate makes better."""
    look = _Look(min(_FIRST, len(choices.images)))
    choice: _Choice = tuple((name, next(iter(each.candidates))) for name, each in choices.unknown.items())
    changed = True
    while changed:
        before = choice
        for name in choices.unknown:
            variants = choices.variants(choice, name)
            level = {each: float(choices.errors(variants[each], look, name).mean()) for each in variants}
            choice = variants[_preferred(name, level)]
        changed = choice != before
    return choice


def _preferred(name: str, level: Mapping[str, float]) -> str:
    """Return the candidate of the smallest mean log-error; of pixel statistics, the first that are as good as any."""
    tolerated = _NEGLIGIBLE if name == "statistics" else 0.0
    return next(each for each in level if level[each] <= min(level.values()) + tolerated)


def _settle(choices: _Choices, choice: _Choice, unknown: UnknownFact) -> tuple[_Choice, dict[str, Fact]]:
    """Return the choice with the best candidate for an unknown fact, and the facts that this gives.

    Raises:
        MimiaError: No candidate is clearly best, and none may be assumed.
    """
    variants = choices.variants(choice, unknown.name)
    best, left, behind = _compare(choices, variants, unknown)
    rivals = left - {best}
    if unknown.name == "statistics":  # those that reconstruct as well are as good
        rivals = {name for name in rivals if behind[name][0] > _NEGLIGIBLE}
    relative = choices.of_draw(variants[best], min(_FIRST, len(choices.images))).relative
    if not rivals and relative < 1:
        return variants[best], _facts_of(unknown, best, behind)
    if unknown.has_default:
        return variants[next(iter(unknown.candidates))], {}
    second = min(behind, key=lambda name: behind[name][0])
    raise MimiaError(
        f"The pixels do not say the checkpoint's {unknown.name.replace('_', ' ')}: with {best} its error is "
        f"{relative:.2f} of that of the mean colour, and with {second} {behind[second][0]:.1%} larger; pass "
        f"{unknown.flag}."
    )


def _compare(
    choices: _Choices, variants: Mapping[str, _Choice], unknown: UnknownFact
) -> tuple[str, set[str], dict[str, tuple[float, float]]]:
    """Compare candidates on more and more images and masks, and give up those that are plainly worse than the best.

    Returns:
        The best; those that were not given up; and of each other one by how much its error is larger, relatively and
        in standard errors.
    """
    left, behind, best = set(variants), dict[str, tuple[float, float]](), ""
    for look in _looks(len(choices.images), unknown):
        errors = {each: choices.errors(variants[each], look, unknown.name) for each in left}
        best = _preferred(unknown.name, {each: float(errors[each].mean()) for each in variants if each in left})
        for each in left - {best}:
            difference = errors[each] - errors[best]
            error = float(difference.std(ddof=1)) / np.sqrt(look.images) if look.images >= _FEWEST else np.inf
            behind[each] = float(np.expm1(difference.mean())), float(difference.mean()) / (error + _TINY)
        left = {each for each in left if each == best or behind[each][1] <= _CLEAR}
        if len(left) == 1:
            break
    behind.pop(best, None)
    return best, left, behind


def _looks(images: int, unknown: UnknownFact) -> Iterator[_Look]:
    """Yield looks at more and more images, up to all, and then at more and more masks of them."""
    images = min(images, _ENOUGH) if unknown.has_default else images
    look = _Look(min(_FIRST, images))
    while look.images < images:
        yield look
        look = _Look(min(2 * look.images, images))
    while not unknown.has_default and look.draws < _MOST_DRAWS:
        yield look
        look = _Look(images, 2 * look.draws)
    yield look


def _read_as(parsed: ParsedCheckpoint, name: str, value: Any) -> ParsedCheckpoint:
    """Return a checkpoint with one fact changed."""
    if name in ("heads", "decoder_heads"):
        return replace(parsed, architecture=parsed.architecture.model_copy(update={name: value}))
    if name == "channel_order":
        return reversed_colours(parsed) if value == "bgr" else parsed
    changed = dict(zip(("mean", "std"), value, strict=True)) if name == "statistics" else {name: value}
    return replace(parsed, spec=parsed.spec.model_copy(update=changed))


def _facts_of(unknown: UnknownFact, best: str, behind: Mapping[str, tuple[float, float]]) -> dict[str, Fact]:
    """Return the facts that an answer gives, with how clear it is."""
    if unknown.name == "statistics":
        behind = {name: each for name, each in behind.items() if each[0] > _NEGLIGIBLE}
    reason = ""
    if behind:
        second = min(behind, key=lambda name: behind[name][0])
        relative, errors = behind[second]
        reason = f"the error of {second} is {relative:.1%} larger, by {errors:.0f} standard errors"
    value = unknown.candidates[best]
    if unknown.name == "statistics":
        reason = "; ".join(filter(None, (f"{best} reconstruct as well as any", reason)))
        return {name: Fact(each, "pixels", reason) for name, each in zip(("mean", "std"), value, strict=True)}
    return {unknown.name: Fact(value, "pixels", reason)}


def _with_own_statistics(unknown: UnknownFact, images: ImageSet) -> UnknownFact:
    """Add the statistics of the images themselves to the candidates."""
    return replace(unknown, candidates={**unknown.candidates, _OWN: pixel_statistics(images)})


def _model_of(parsed: ParsedCheckpoint) -> MaskedImageModel:
    return build_for(parsed.state, parsed.spec, parsed.architecture, parsed.layout, "what was found out")
