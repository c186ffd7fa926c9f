"""``mimia pretrain``: a checkpoint directory, with the list of its training images."""

import csv
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mimia.config import Settings
from mimia.errors import MimiaError
from mimia.images.imageset import ImageSet
from mimia.images.load import load_images
from mimia.pretraining.models import given_tokenizer, pretrained, spec_for
from mimia.store import Store

TRAINED_ON = "trained_on.csv"


def pretrain(settings: Settings, out: Path) -> Path:
    """Pre-train a model on the images of ``data.source`` and write its checkpoint.

    Args:
        settings: ``split.n_members`` images are drawn with ``split.seed``; all of them by default.
        out: Directory that does not exist yet or is empty.

    Raises:
        MimiaError: The directory is not empty or cannot be written, there are too few images, or they do not fit the
            recipe.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise MimiaError(f"{out} is not empty: choose another directory for the checkpoint with --out.")
    store = Store(settings.store)
    images = load_images([settings.data.source], store, settings.data.image_size).images
    wanted = settings.split.n_members or len(images)
    if wanted > len(images):
        raise MimiaError(f"{wanted:,} images are asked for, and there are {len(images):,}: ask for fewer (--n-images).")
    rows = np.random.default_rng(settings.split.seed).permutation(len(images))[:wanted]
    chosen = images.take(rows)
    spec = spec_for(chosen, settings.recipe)
    tokenizer = given_tokenizer(settings, spec)
    checkpoint = pretrained(
        chosen, spec, settings.recipe, settings.recipe.seed, settings.compute, store, tokenizer=tokenizer
    )
    try:
        _write(checkpoint, chosen, out)
    except OSError as error:
        raise MimiaError(
            f"The checkpoint cannot be written to {out} ({error}): free some space or choose another directory with "
            "--out, and run the same command again."
        ) from error
    return out


def _write(checkpoint: Path, images: ImageSet, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as temporary:  # so that it is never seen half-written
        work = Path(temporary) / "checkpoint"
        shutil.copytree(checkpoint, work)
        with (work / TRAINED_ON).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["name", "id"])
            writer.writerows(zip(images.names.tolist(), images.ids.tolist(), strict=True))
        work.replace(out)
