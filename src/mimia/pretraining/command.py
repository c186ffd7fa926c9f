"""``mimia pretrain``: write a checkpoint directory with the list of its training images and its canaries."""

import csv
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mimia.config.settings import Settings
from mimia.data.account import announce
from mimia.data.canaries import EXCLUDED, INCLUDED, canary_suffix, make_canaries, save_canary
from mimia.data.imageset import ImageSet
from mimia.data.loading import ReadOptions, load_sides
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import given_tokenizer, pretrained
from mimia.pretraining.specs import spec_for
from mimia.pretraining.start import open_start
from mimia.pretraining.trainer import STATE
from mimia.runtime.arrays import Bools, Indices
from mimia.runtime.disk import clear_disk_errors, disk_sentence
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed
from mimia.runtime.store import Store
from mimia.runtime.text import masked_values, to_cell

CANARIES = "canaries"
TRAINED_ON = "trained_on.csv"


@dataclass(frozen=True)
class _Canaries:
    """Images of which each joins the training images with probability ½.

    Attributes:
        images: All canaries, with their paths in the checkpoint as names.
        included: Whether each is trained on, (canaries,).
        drawn: Rows of the source that they were made of, (canaries,).
    """

    images: ImageSet
    included: Bools
    drawn: Indices


def pretrain(settings: Settings, out: Path) -> Path:
    """Pre-train a model on the images of ``data.source`` and write its checkpoint.

    Canaries are made of other images than the ordinary training images. Each is trained on with probability ½; the
    checkpoint has them as PNG, or as TIFF if they have other bands than grey or RGB, in ``canaries/included`` and
    ``canaries/excluded``.

    Args:
        settings: ``split.n_members`` images are drawn with ``split.seed``, all of them by default, and
            ``canaries.count`` more.
        out: Directory that does not exist yet or is empty.

    Raises:
        MimiaError: The directory is not empty or cannot be written, there are too few images, or they do not fit the
            recipe.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MimiaError(f"{out} is not empty: choose another directory for the checkpoint with --out.")
    store = Store(settings.store)
    data = settings.data
    reading = ReadOptions(data.image_size, data.channels, bit_depth=data.bit_depth, allow_skipped=data.allow_skipped)
    loaded = load_sides({"source": data.source}, store, reading)
    announce(loaded.accounts)
    images = loaded.images
    canaries = _draw_canaries(images, settings)
    rows = np.random.default_rng(settings.split.seed).permutation(len(images))
    rows = rows[~np.isin(images.ids[rows], images.ids[canaries.drawn])]
    validation = (settings.split.n_validation or max(1, len(rows) // 10)) if settings.recipe.needs_validation else 0
    wanted = settings.split.n_members or max(1, len(rows) - validation)
    if wanted + validation > len(rows):
        others = {"canaries": len(canaries.drawn), "validation images": validation}
        beside = "".join(f" beside {count:,} {what}" for what, count in others.items() if count)
        raise MimiaError(
            f"{wanted:,} images are asked for, and there are {len(rows):,}{beside}: ask for fewer (--n-images)."
        )
    chosen = images.take(rows[:wanted])
    if canaries.included.any():
        chosen = _joined(chosen, canaries.images.take(np.flatnonzero(canaries.included)))
    unseen = images.take(rows[len(rows) - validation :])
    context = TrainingContext(settings.compute, store, validation=unseen)
    context = open_start(settings.recipe, chosen, context, settings.checkpoint)
    spec = spec_for(chosen, settings.recipe, context.start)
    if context.start is None:
        context = replace(context, tokenizer=given_tokenizer(settings, spec))
    checkpoint = pretrained(chosen, spec, settings.recipe, settings.recipe.seed, context)
    try:
        with clear_disk_errors(out):
            _write(checkpoint, chosen, canaries, out)
    except OSError as error:
        sentence = disk_sentence(error, f"the checkpoint {out}", "choose another directory with --out")
        raise MimiaError(sentence) from error
    return out


def _draw_canaries(images: ImageSet, settings: Settings) -> _Canaries:
    """Draw different images and which are included, in an order that depends on neither."""
    count, seed = settings.canaries.count, settings.split.seed
    generator = np.random.default_rng(derived_seed(seed, "canaries"))
    _, different = np.unique(images.ids, return_index=True)
    if count > len(different):
        raise MimiaError(
            f"{count:,} canaries are asked for, and there are {len(different):,} different images: ask for fewer "
            "(--canaries)."
        )
    drawn = generator.permutation(different)[:count]
    included = generator.random(count) < 0.5
    canaries = make_canaries(
        images.take(drawn), settings.canaries.kind, settings.recipe.patch_size, derived_seed(seed, "canaries", "pixels")
    )
    suffix = canary_suffix(canaries.pixels.shape[1])
    names = [
        f"{CANARIES}/{INCLUDED if coin else EXCLUDED}/{number:0{max(4, len(str(count)))}}{suffix}"
        for number, coin in enumerate(included, 1)
    ]
    return _Canaries(replace(canaries, names=np.array(names, dtype=np.str_)), included, drawn)


def _joined(first: ImageSet, second: ImageSet) -> ImageSet:
    return ImageSet(
        pixels=np.concatenate([first.pixels, second.pixels]),
        ids=np.concatenate([first.ids, second.ids]),
        names=np.concatenate([first.names, second.names]),
        facts=np.concatenate([first.facts, second.facts]),
    )


def _write(checkpoint: Path, images: ImageSet, canaries: _Canaries, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as temporary:  # so that it is never seen half-written
        work = Path(temporary) / "checkpoint"
        shutil.copytree(checkpoint, work, ignore=shutil.ignore_patterns(STATE))
        with (work / TRAINED_ON).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "id"])
            writer.writerows(zip(map(to_cell, masked_values(images.names.tolist())), images.ids.tolist(), strict=True))
        for name, pixels in zip(canaries.images.names, canaries.images.pixels, strict=True):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            save_canary(pixels, work / name)
        work.replace(out)
