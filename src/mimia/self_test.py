"""Does the validity gate give the right verdict where the truth is known, because it was planted?

One target and its shadows are pre-trained on some images. Then it is audited with sides whose truth is known: a leak,
none, images that were prepared otherwise though the model never saw them, near-duplicates, and scores that are tied or
have the wrong sign.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from mimia.arrays import Floats, Pixels
from mimia.attacks.base import Scores
from mimia.audit import AuditResult, audit
from mimia.config import Settings, read_settings
from mimia.errors import MimiaError
from mimia.evaluation.evaluate import evaluate_together
from mimia.evaluation.validity import ControlScores, compare_control
from mimia.evaluation.verdict import Sides, Verdict, judge
from mimia.images.decode import to_image
from mimia.images.load import load_images
from mimia.pretraining.command import pretrain
from mimia.store import Store

Prepare = Callable[[Image.Image], Image.Image]
_SIDE = 200  # images
_FEWEST, _MOST = 8 * _SIDE, 9 * _SIDE  # of all images: the digits are 1,797


@dataclass(frozen=True)
class Case:
    """What is planted, and the verdict that is right for it.

    Attributes:
        name: Of the case.
        planted: What is done, for a reader.
        expected: Kind of the right verdict.
        plant: Does it, and gives the verdict.
    """

    name: str
    planted: str
    expected: str
    plant: "Callable[[Bed], Verdict]"


@dataclass(frozen=True)
class Outcome:
    """What the gate said of a case."""

    case: Case
    verdict: Verdict

    @property
    def right(self) -> bool:
        """Whether the verdict is the right one."""
        return self.verdict.kind == self.case.expected


def self_test(settings: Settings, only: Iterable[str] | None = None) -> Iterator[Outcome]:
    """Judge what was planted, one case after the other.

    Args:
        settings: Source of the images, store, compute and recipe; the seed of the split draws the sides.
        only: Names of the cases; default: all.

    Raises:
        MimiaError: There are too few images.
    """
    wanted = {case.name for case in CASES} if only is None else set(only)
    with TemporaryDirectory() as directory:
        bed = Bed(settings, Path(directory))
        for case in CASES:
            if case.name in wanted:
                yield Outcome(case, case.plant(bed))


class Bed:
    """A target, and images that it saw and did not see.

    Args:
        settings: Source of the images, store, compute and recipe; the seed of the split draws the sides.
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
            "split": {"seed": settings.split.seed},
        }
        source = settings.data.source
        images = load_images([source], Store(settings.store), settings.data.image_size).images
        if len(images) < _FEWEST:
            raise MimiaError(
                f"The self-test needs {_FEWEST:,} images, and {source} has {len(images):,}: give another source."
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
        """Write images as PNG files of a new folder, with options of Pillow's, and give its path."""
        folder = self.directory / name
        folder.mkdir()
        for number, image in enumerate(pixels):
            prepare(to_image(image)).save(folder / f"{number:04d}.png", **options)
        return str(folder)

    def audit(self, members: str, nonmembers: str, **data: str) -> AuditResult:
        """Audit the target with two folders."""
        sides = {"members": members, "nonmembers": nonmembers, "reference": self.reference}
        return audit(read_settings(None, self.common | {"target": str(self.target), "data": sides | data}))

    def beside(self) -> str:
        """Give the folder of non-members that no model saw."""
        folder = self.directory / "others"
        return str(folder) if folder.exists() else self.write("others", self.others)

    def leak(self) -> AuditResult:
        """Audit the target with the images that it was trained on, once."""
        if self._leak is None:
            self._leak = self.audit(str(self.directory / "seen"), self.beside())
        return self._leak


def _prepared(name: str, prepare: Prepare = lambda image: image, **options: Any) -> Callable[[Bed], Verdict]:
    """Audit unseen images, of which one side is prepared and saved in a way of its own."""

    def plant(bed: Bed) -> Verdict:
        return bed.audit(bed.write(name, bed.unseen, prepare, **options), bed.beside()).report.verdict

    return plant


def _hidden(bed: Bed) -> Verdict:
    copies = bed.write("copies", altered(bed.seen))
    return bed.audit(str(bed.directory / "seen"), copies).report.verdict


def _removed(bed: Bed) -> Verdict:
    mixed = bed.write("copies and others", [*altered(bed.seen), *bed.others[:_SIDE]])
    return bed.audit(str(bed.directory / "seen"), mixed, near_duplicates="remove").report.verdict


def _repeated(bed: Bed) -> Verdict:
    repeated = bed.write("repeated", altered(np.tile(bed.unseen[: _SIDE // 10], (10, 1, 1, 1))))
    return bed.audit(repeated, bed.beside()).report.verdict


def altered(pixels: Pixels) -> Pixels:
    """Change one pixel of each image, another one in each, by one shade of 255: no exact duplicate is left."""
    count, _, height, width = pixels.shape
    changed = pixels.copy()
    at = np.arange(count) % (height * width)
    flat = changed.reshape(count, -1)
    flat[np.arange(count), at] ^= 1
    return changed


def _rescored(change: Callable[[Floats], Floats], *, by_every_model: bool = False) -> Callable[[Bed], Verdict]:
    """Judge the planted leak once more, with other scores of its strongest attack."""

    def plant(bed: Bed) -> Verdict:
        result = bed.leak()
        roles = np.array(result.scores["role"])
        judged = roles != "holdout"
        members = roles[judged] == "member"
        name = result.report.strongest
        values = change(np.array(result.scores[f"{name} score"], dtype=np.float64)[judged])
        scores = Scores(name, values, np.array(result.scores["id"])[judged], float(np.median(values)))
        evaluations = evaluate_together([scores], members, read_settings(None, bed.common).evaluation)
        measured = result.report.measured
        if by_every_model:
            other = ControlScores("other model", values, np.ones(len(values), dtype=bool))
            measured = replace(measured, controls=(compare_control(other, values, members),))
        sides = Sides("members", "non-members", (int(members.sum()), int((~members).sum())))
        return judge(evaluations, measured, sides)

    return plant


def _two_values(scores: Floats) -> Floats:
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
    """Cut the border off, and scale what is left to the old size."""
    width, height = image.size
    edge = max(1, width // 8)
    return image.crop((edge, edge, width, height)).resize((width, height), Image.Resampling.BICUBIC)


CASES = (
    Case("leak", "members are what the target was trained on", "leaks", lambda bed: bed.leak().report.verdict),
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
    Case("ties", "the leak, with scores of two values only", "leaks", _rescored(_two_values)),
    Case("constant", "the leak, with a score that is the same for all", "no leak found", _rescored(np.ones_like)),
    Case(
        "blind to the model",
        "the leak, with a score that is the same by every model",
        "invalid",
        _rescored(np.copy, by_every_model=True),
    ),
    Case("reversed sign", "the leak, with an attack whose sign is wrong", "invalid", _rescored(np.negative)),
)
"""What is planted, each with the right verdict."""
