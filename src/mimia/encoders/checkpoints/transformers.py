"""Export to a directory that transformers opens with ``ViTMAEForPreTraining.from_pretrained``.

transformers names keys otherwise on disk than in memory, and otherwise from version to version: keys are mapped in
memory only, and the files are left to its own writer.
"""

import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mimia.encoders.base import ModelSpec
from mimia.encoders.checkpoints import native
from mimia.encoders.mae import Architecture
from mimia.encoders.vit import LAYER_NORM_EPS
from mimia.errors import MimiaError

if TYPE_CHECKING:
    from transformers import ViTMAEConfig

_BICUBIC = 3  # PIL.Image.Resampling.BICUBIC
_RENAMED = (  # the first that matches, a key of the official MAE to one of transformers
    (r"blocks\.(\d+)\.", r"vit.layers.\1."),
    (r"decoder_blocks\.(\d+)\.", r"decoder.decoder_layers.\1."),
    (r"patch_embed\.proj\.", r"vit.embeddings.patch_embeddings.projection."),
    (r"pos_embed$", r"vit.embeddings.position_embeddings"),
    (r"cls_token$", r"vit.embeddings.cls_token"),
    (r"norm\.", r"vit.layernorm."),
    (r"(decoder_|mask_token$)", r"decoder.\1"),
)
_RENAMED_IN_BLOCKS = {
    ".attn.proj.": ".attention.o_proj.",
    ".norm1.": ".layernorm_before.",
    ".norm2.": ".layernorm_after.",
}


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
    with torch.device("meta"):
        exported = ViTMAEForPreTraining(_config(model.spec, model.architecture))
    exported.load_state_dict(_renamed(model.state_dict()), strict=True, assign=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=destination.parent) as temporary:  # so that it is never seen half-written
        work = Path(temporary) / "export"
        exported.save_pretrained(work)
        (work / "preprocessor_config.json").write_text(json.dumps(_preprocessing(model.spec), indent=2))
        work.replace(destination)


def _config(spec: ModelSpec, architecture: Architecture) -> "ViTMAEConfig":
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
        layer_norm_eps=LAYER_NORM_EPS,
        image_size=spec.image_size,
        patch_size=spec.patch_size,
        num_channels=spec.channels,
        mask_ratio=spec.mask_ratio,
        norm_pix_loss=spec.target_space == "patch-normalised",
    )


def _renamed(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        name = next(re.sub(f"^{old}", new, key) for old, new in _RENAMED if re.match(old, key))
        for old, new in _RENAMED_IN_BLOCKS.items():
            name = name.replace(old, new)
        if ".attn.qkv." in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace(".attn.qkv.", f".attention.{part}_proj.")] = rows.contiguous()
        else:
            renamed[name] = value
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
