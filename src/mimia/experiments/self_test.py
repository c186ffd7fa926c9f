"""Self-test: does the validity gate return the right verdict where the truth is known, because it was planted?

One target and its shadows are pre-trained on some images. Then the target is audited with sides whose truth is known: a
leak, no leak, images that were prepared differently though the model never saw them, near-duplicates, and scores that
are tied or have the wrong sign.
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFilter

from mimia.attacks.base import Scores
from mimia.config.settings import EvaluationSettings, Settings, read_settings
from mimia.data.bands import COLOURS
from mimia.data.decoding import to_image
from mimia.data.loading import ReadOptions, load_sides
from mimia.evaluation.evaluate import Evaluation, evaluate_together
from mimia.jobs.audit import audit
from mimia.jobs.results import AuditResult
from mimia.pretraining.command import pretrain
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.validity.absence import AbsenceCriterion
from mimia.validity.controls import ControlScores, Measurements, compare_control
from mimia.validity.verdict import Sides, Verdict, judge

_MARGINS = EvaluationSettings().margin_auc, EvaluationSettings().margin_tpr
Prepare = Callable[[Image.Image], Image.Image]
_SIDE = 200  # images
_FEWEST, _MOST = 8 * _SIDE, 9 * _SIDE  # of all images: the digits are 1,797


class Findings(NamedTuple):
    """What a verdict is made from: the arguments of `judge`."""

    evaluations: Sequence[Evaluation]
    measurements: Measurements
    sides: Sides
    criterion: AbsenceCriterion = AbsenceCriterion(*_MARGINS)


@dataclass(frozen=True)
class Case:
    """What is planted, and the verdict that is right for it.

    Attributes:
        name: Of the case.
        planted: What is done, for a reader.
        expected: Kind of the right verdict.
        plant: Function that plants it and returns what is measurements then.
    """

    name: str
    planted: str
    expected: str
    plant: "Callable[[Bed], Findings]"


@dataclass(frozen=True)
class Outcome:
    """The verdict on a case."""

    case: Case
    verdict: Verdict

    @property
    def right(self) -> bool:
        """Whether the verdict is the right one."""
        return self.verdict.kind == self.case.expected


def self_test(settings: Settings) -> Iterator[Outcome]:
    """Judge each case, one after the other.

    Args:
        settings: Source of the images, attacks, store, compute and recipe; the seed of the split draws the sides.

    Raises:
        MimiaError: There are too few images.
    """
    with TemporaryDirectory() as directory:
        bed = Bed(settings, Path(directory))
        for case in CASES:
            yield Outcome(case, judge(*case.plant(bed)))


class Bed:
    """A target that is trained here, with images that it saw and did not see.

    Args:
        settings: Source of the images, attacks, store, compute and recipe; the seed of the split draws the sides.
        directory: For images and checkpoint.

    Raises:
        MimiaError: There are too few images.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.directory = directory
        self.common: dict[str, Any] = {
            "store": settings.store,
            "compute": settings.compute.model_dump(),
            "recipe": settings.recipe.model_dump(),
            "attacks": settings.attacks.model_dump(),
            "split": {"seed": settings.split.seed},
        }
        source = settings.data.source
        images = load_sides({"source": source}, Store(settings.store), ReadOptions(settings.data.image_size)).images
        if len(images) < _FEWEST:
            raise MimiaError(
                f"The self-test needs {_FEWEST:,} images, and {source} has {len(images):,}: pass another source."
            )
        if images.pixels.shape[1] not in COLOURS:
            raise MimiaError(
                f"The self-test writes its images as PNG and JPEG files, and those of {source} have "
                f"{images.pixels.shape[1]} bands: pass a source of grey or RGB images."
            )
        rows = np.random.default_rng(settings.split.seed).permutation(len(images))[:_MOST]
        self.seen, self.unseen, self.others, pool = (
            images.pixels[part] for part in np.split(rows, [_SIDE, 2 * _SIDE, 4 * _SIDE])
        )
        self.reference = self.write("reference", pool)
        training = read_settings(None, self.common | {"data": {"source": self.write("seen", self.seen)}})
        self.target = pretrain(training, directory / "target")
        self._leak: AuditResult | None = None

    def write(self, name: str, pixels: Iterable[Pixels], prepare: Prepare = lambda image: image, **options: Any) -> str:
        """Write images as PNG files of a new folder, with options of Pillow's, and return its path."""
        folder = self.directory / name
        folder.mkdir()
        for number, image in enumerate(pixels):
            prepare(to_image(image)).save(folder / f"{number:04d}.png", **options)
        return str(folder)

    def audit(self, members: str, nonmembers: str, **data: str) -> AuditResult:
        """Audit the target with two folders."""
        sides = {"members": members, "nonmembers": nonmembers, "reference": self.reference}
        return audit(settings=read_settings(None, self.common | {"target": str(self.target), "data": sides | data}))

    def beside(self) -> str:
        """Return the folder of non-members that no model saw."""
        folder = self.directory / "others"
        return str(folder) if folder.exists() else self.write("others", self.others)

    def leak(self) -> AuditResult:
        """Audit the target with the images that it was trained on, once."""
        if self._leak is None:
            self._leak = self.audit(str(self.directory / "seen"), self.beside())
        return self._leak


def findings_of(result: AuditResult) -> Findings:
    """Return what an audit's verdict was made from."""
    roles = np.array(result.scores["role"])
    sizes = int((roles == "member").sum()), int((roles == "nonmember").sum())
    return Findings(result.report.evaluations, result.report.validity, Sides("members", "non-members", sizes))


def rescored(result: AuditResult, change: Callable[[Floats], Floats], *, by_every_model: bool = False) -> Findings:
    """Return the findings of an audit with other scores of its deciding attack, by the target or by every model."""
    _, measurements, sides, _ = findings_of(result)
    roles = np.array(result.scores["role"])
    evaluated = roles != "holdout"
    is_member = roles[evaluated] == "member"
    name = result.report.deciding
    values = change(np.array(result.scores[f"{name} score"], dtype=np.float64)[evaluated])
    scores = Scores(name, values, np.array(result.scores["id"])[evaluated], float(np.median(values)), 1.0)
    if by_every_model:
        other = ControlScores("other model", values, np.ones(len(values), dtype=bool))
        measurements = replace(measurements, controls=(compare_control(other, values, is_member),))
    return Findings(evaluate_together([scores], is_member, EvaluationSettings()), measurements, sides)


def _prepared(name: str, prepare: Prepare = lambda image: image, **options: Any) -> Callable[[Bed], Findings]:
    """Audit unseen images, of which one side is prepared and saved in a way of its own."""

    def plant(bed: Bed) -> Findings:
        return findings_of(bed.audit(bed.write(name, bed.unseen, prepare, **options), bed.beside()))

    return plant


def _hidden(bed: Bed) -> Findings:
    copies = bed.write("copies", altered(bed.seen))
    return findings_of(bed.audit(str(bed.directory / "seen"), copies))


def _removed(bed: Bed) -> Findings:
    mixed = bed.write("copies and others", [*altered(bed.seen), *bed.others[:_SIDE]])
    return findings_of(bed.audit(str(bed.directory / "seen"), mixed, near_duplicates="remove"))


def _repeated(bed: Bed) -> Findings:
    repeated = bed.write("repeated", altered(np.tile(bed.unseen[: _SIDE // 10], (10, 1, 1, 1))))
    return findings_of(bed.audit(repeated, bed.beside()))


def altered(pixels: Pixels) -> Pixels:
    """Change one pixel of each image, a different one in each, by one shade of 255: no exact duplicate is left."""
    count, _, height, width = pixels.shape
    changed = pixels.copy()
    at = np.arange(count) % (height * width)
    flat = changed.reshape(count, -1)
    flat[np.arange(count), at] ^= 1
    return changed


def two_values(scores: Floats) -> Floats:
    """Replace scores by 1 for the highest fifth and 0 for the others."""
    return (scores >= np.quantile(scores, 0.8)).astype(np.float64)


def sharpened(image: Image.Image) -> Image.Image:
    """Sharpen an image, as many a pipeline does."""
    return image.filter(ImageFilter.UnsharpMask(radius=1, percent=150, threshold=0))


def re_encoded(image: Image.Image) -> Image.Image:
    """Save an image as a JPEG file in between."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=50)
    return Image.open(buffer)


def cropped(image: Image.Image) -> Image.Image:
    """Cut off the border, and scale the rest to the old size."""
    width, height = image.size
    edge = max(1, width // 8)
    return image.crop((edge, edge, width, height)).resize((width, height), Image.Resampling.BICUBIC)


CASES = (
    Case("leak", "members are what the target was trained on", "leaks", lambda bed: findings_of(bed.leak())),
    Case("null", "neither side was seen by the target", "no leak found", _prepared("unseen")),
    Case("sharpened", "neither was seen; one side is sharpened", "invalid", _prepared("sharpened", sharpened)),
    Case("re-encoded", "neither was seen; one side was a JPEG file", "invalid", _prepared("re-encoded", re_encoded)),
    Case("cropped", "neither was seen; one side is cropped and scaled", "invalid", _prepared("cropped", cropped)),
    Case(
        "other files",
        "neither was seen; the files of one side are not compressed",
        "invalid",
        _prepared("not compressed", compress_level=0),
    ),
    Case("hidden by copies", "the non-members are the members, one pixel changed by a shade", "invalid", _hidden),
    Case("copies removed", "half of them are; data.near_duplicates = remove", "leaks", _removed),
    Case("repeated", "neither was seen; one side has 20 images ten times, with that change", "invalid", _repeated),
    Case("ties", "the leak, with scores of two values only", "leaks", lambda bed: rescored(bed.leak(), two_values)),
    Case(
        "constant",
        "the leak, with a score that is the same for all",
        "inconclusive",
        lambda bed: rescored(bed.leak(), np.ones_like),
    ),
    Case(
        "blind to the model",
        "the leak, with a score that is the same by every model",
        "invalid",
        lambda bed: rescored(bed.leak(), np.copy, by_every_model=True),
    ),
    Case(
        "reversed sign",
        "the leak, with an attack whose sign is wrong",
        "invalid",
        lambda bed: rescored(bed.leak(), np.negative),
    ),
)
"""All cases of the self-test."""
