"""Export to a directory that transformers loads, such as by ``ViTMAEForPreTraining.from_pretrained``."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from mimia.data.bands import COLOURS
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.layout import LAYOUTS, DirectoryLayout
from mimia.models.registry import family_of
from mimia.runtime.disk import clear_disk_errors
from mimia.runtime.errors import MimiaError

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC


def export(directory: Path, destination: Path) -> None:
    """Write a checkpoint directory as one of transformers, with its pre-processing.

    Args:
        directory: What ``mimia pretrain`` wrote.
        destination: A new or empty directory.

    Raises:
        MimiaError: The checkpoint cannot be opened, the layout cannot hold its model, or there is something at the
            destination.
    """
    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise MimiaError(f"There is something at {destination}: name a new directory for the export.")
    model = native.load(directory)
    name = family_of(model.architecture.family).exported_layout
    layout = None if name is None else LAYOUTS.find(name)
    if not isinstance(layout, DirectoryLayout) or layout.export is None:
        raise MimiaError(
            f"{directory} holds a model of the family {model.architecture.family}, which cannot be exported: only "
            "those of the family mae can."
        )
    exported = layout.export(model)
    destination.parent.mkdir(parents=True, exist_ok=True)
    # It is never seen half-written.
    with TemporaryDirectory(dir=destination.parent) as temporary, clear_disk_errors(destination):
        work = Path(temporary) / "export"
        exported.save_pretrained(work)
        (work / "preprocessor_config.json").write_text(json.dumps(_preprocessing(model.spec), indent=2))
        work.replace(destination)


def _preprocessing(spec: ModelSpec) -> dict[str, object]:
    """Return settings of transformers' image processor that lead to our data-set-normalised pixels.

    It resizes by Pillow, which takes grey and RGB alone: images of other bands need to have the size of the model.
    """
    size, colours = spec.image_size, spec.channels in COLOURS
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": spec.channels == 3,
        "do_resize": colours,
        "size": {"shortest_edge": size},
        "resample": _BICUBIC,
        "do_center_crop": colours,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": spec.mean,
        "image_std": spec.std,
    }
