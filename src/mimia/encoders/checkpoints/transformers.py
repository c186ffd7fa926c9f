"""Export to a directory that transformers opens with ``ViTMAEForPreTraining.from_pretrained``."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.checkpoints.transformers_mae import their_names
from mimia.encoders.mae import Mae, MaeArchitecture
from mimia.errors import MimiaError

if TYPE_CHECKING:
    from transformers import ViTMAEConfig

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC


def export(directory: Path, destination: Path) -> None:
    """Write a checkpoint directory as one of transformers, with its pre-processing.

    Args:
        directory: What ``mimia pretrain`` wrote.
        destination: A new or empty directory.

    Raises:
        MimiaError: The checkpoint cannot be opened, or there is something at the destination.
    """
    from transformers import ViTMAEForPreTraining

    if destination.is_file() or (destination.is_dir() and any(destination.iterdir())):
        raise MimiaError(f"There is something at {destination}: name a new directory for the export.")
    model = native.load(directory)
    if not isinstance(model, Mae):
        raise MimiaError(f"{directory} is no masked autoencoder: only those are exported so far.")
    with torch.device("meta"):
        exported = ViTMAEForPreTraining(_config(model.spec, model.architecture))
    exported.load_state_dict(_renamed(model.state_dict()), strict=True, assign=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=destination.parent) as temporary:  # so that it is never seen half-written
        work = Path(temporary) / "export"
        exported.save_pretrained(work)
        (work / "preprocessor_config.json").write_text(json.dumps(_preprocessing(model.spec), indent=2))
        work.replace(destination)


def _config(spec: ModelSpec, architecture: MaeArchitecture) -> "ViTMAEConfig":
    from transformers import ViTMAEConfig

    return ViTMAEConfig(
        hidden_size=architecture.width,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=4 * architecture.width,
        decoder_hidden_size=architecture.decoder_width,
        decoder_num_hidden_layers=architecture.decoder_depth,
        decoder_num_attention_heads=architecture.decoder_heads,
        decoder_intermediate_size=4 * architecture.decoder_width,
        layer_norm_eps=architecture.norm_eps,
        image_size=spec.image_size,
        patch_size=spec.patch_size,
        num_channels=spec.channels,
        mask_ratio=spec.mask_ratio,
        norm_pix_loss=spec.target_space == "patch-normalised",
    )


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for key, value in weights.items():
        names = their_names(key)
        renamed.update(zip(names, (part.contiguous() for part in value.chunk(len(names))), strict=True))
    return renamed


def _preprocessing(spec: ModelSpec) -> dict[str, object]:
    """Give settings of transformers' image processor that lead to our data-set-normalised pixels."""
    size = spec.image_size
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_convert_rgb": spec.channels == 3,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": _BICUBIC,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": spec.mean,
        "image_std": spec.std,
    }
