"""MAEs in directories of transformers: ``ViTMAEForPreTraining``, and ``ViTMAEModel`` without a decoder.

transformers names keys otherwise on disk than in memory, and otherwise from version to version: keys are mapped in
memory only, and the files are left to its own reader and writer.
"""

import re
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import ModelSpec, TargetSpace
from mimia.models.checkpoints.attention_heads import attention_heads
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.layout import DirectoryLayout
from mimia.models.checkpoints.official_mae import unknown_space
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.saved_settings import SavedSettings
from mimia.models.checkpoints.strict import outline
from mimia.models.checkpoints.transformers_directory import Directory, load_weights
from mimia.models.mae import MAE, MAEArchitecture
from mimia.models.registry import build
from mimia.models.vit import LAYER_NORM_EPS
from mimia.runtime.errors import MimiaError

if TYPE_CHECKING:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

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


def their_names(key: str) -> list[str]:
    """Return the names in transformers for a name of the official MAE: three for query, key and value.

    >>> their_names("blocks.0.attn.proj.bias"), len(their_names("decoder_blocks.1.attn.qkv.weight"))
    (['vit.layers.0.attention.o_proj.bias'], 3)
    """
    name = next(re.sub(f"^{old}", new, key) for old, new in _RENAMED if re.match(old, key))
    for old, new in _RENAMED_IN_BLOCKS.items():
        name = name.replace(old, new)
    if ".attn.qkv." in name:
        return [name.replace(".attn.qkv.", f".attention.{part}_proj.") for part in "qkv"]
    return [name]


def read(directory: Directory, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a directory of ``ViTMAEForPreTraining`` or ``ViTMAEModel``.

    Raises:
        MimiaError: It is of another class, its weights are not those that its configuration asks for, or it is shaped
            otherwise than an MAE.
    """
    import transformers

    name = directory.architecture or "ViTMAEForPreTraining"
    has_decoder = name == "ViTMAEForPreTraining"
    if not has_decoder and name != "ViTMAEModel":
        raise MimiaError(
            f"{directory.path} holds a {name}: pass a ViTMAEForPreTraining, or a ViTMAEModel for an encoder alone."
        )
    config = directory.parsed(transformers.ViTMAEConfig)
    saved = SavedSettings(directory.place, directory.said() | _said(config, directory.config))
    facts = CheckpointFacts(directory.path, {}, saved, given)
    sizes: dict[str, Any] = {
        "width": config.hidden_size,
        "depth": config.num_hidden_layers,
        "heads": attention_heads(facts, "heads", config.hidden_size, visible=has_decoder),
        "norm_eps": config.layer_norm_eps,
    }
    if has_decoder:
        sizes["decoder_width"] = config.decoder_hidden_size
        sizes["decoder_depth"] = config.decoder_num_hidden_layers
        sizes["decoder_heads"] = attention_heads(facts, "decoder_heads", config.decoder_hidden_size, visible=True)
    _refuse_other_shapes(directory, config, has_decoder)
    spec = facts.spec(
        config.num_channels,
        visible=has_decoder,
        image_size=directory.square("image_size", config.image_size),
        patch_size=directory.square("patch_size", config.patch_size),
        mask_ratio=facts.stated("mask_ratio"),
        target_space=_predicted(facts, visible=has_decoder),
    )
    architecture = facts.architecture(MAEArchitecture, **sizes)
    weights = load_weights(directory, getattr(transformers, name))
    if not has_decoder:
        weights = {f"vit.{name}": value for name, value in weights.items()}
    if config.layer_norm_eps != LAYER_NORM_EPS:
        facts.remarks.append(
            f"layer normalisation adds {config.layer_norm_eps}, as config.json says; the official MAE was trained with "
            f"{LAYER_NORM_EPS}"
        )
    ours = outline(partial(build, spec, architecture), str(directory.path), "config.json")
    state = _official(weights, ours.state_dict())
    kind = "with decoder" if has_decoder else "without decoder"
    return facts.parsed(f"transformers {name} ({kind})", spec, architecture, state=state)


def _said(config: "ViTMAEConfig", written: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        "heads": config.num_attention_heads,
        "decoder_heads": config.decoder_num_attention_heads,
        "mask_ratio": config.mask_ratio,
    }
    if "norm_pix_loss" in written:
        said["target_space"] = "patch-normalised" if config.norm_pix_loss else "normalised"
    return said


def _predicted(facts: CheckpointFacts, *, visible: bool) -> TargetSpace:
    """Return what the decoder predicts; transformers' default is written whether it is true or not."""
    known: TargetSpace = facts.or_else(
        "target_space", "normalised", "target space is pixels as they are, transformers' default"
    )
    if visible and facts.facts["target_space"].origin == "assumed":
        facts.unknown.append(unknown_space(known, has_default=True))
    return known


def _refuse_other_shapes(directory: Directory, config: "ViTMAEConfig", has_decoder: bool) -> None:
    wanted: dict[str, object] = {"hidden_act": "gelu", "qkv_bias": True, "intermediate_size": 4 * config.hidden_size}
    if has_decoder:
        wanted["decoder_intermediate_size"] = 4 * config.decoder_hidden_size
    for name, value in wanted.items():
        found = getattr(config, name)
        if found != value:
            raise MimiaError(
                f"{directory.path} has {name} = {found}, and only {value} works: it is shaped otherwise than an MAE."
            )


def _official(weights: dict[str, Tensor], names: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights by their official names, or their own if they have none; empties its argument."""
    state = {}
    for name in names:
        parts = [weights.pop(theirs) for theirs in their_names(name) if theirs in weights]
        if parts:
            state[name] = torch.cat(parts) if len(parts) > 1 else parts[0]
    return state | weights


def export(model: MAE) -> "ViTMAEForPreTraining":
    """Return the model of transformers with the same weights.

    Raises:
        MimiaError: The model has something that transformers' does not have.
    """
    from transformers import ViTMAEForPreTraining

    _refuse_what_it_lacks(model)

    with torch.device("meta"):
        exported = ViTMAEForPreTraining(_config(model.spec, model.architecture))
    exported.load_state_dict(_renamed(model.state_dict()), strict=True, assign=True)
    return exported


def _refuse_what_it_lacks(model: MAE) -> None:
    rows, columns = model.spec.grid
    lacking = {
        f"a grid of {rows} by {columns} patches that is no square": rows != columns,
        "registers": model.architecture.registers > 0,
        "no class token": not model.architecture.class_token,
        "no position of the class token": model.architecture.class_token and not model.architecture.class_position,
        "scaled residuals (LayerScale)": model.architecture.layer_scale,
    }
    found = [name for name, is_so in lacking.items() if is_so]
    if found:
        raise MimiaError(
            f"The model has {' and '.join(found)}, which the ViTMAE of transformers cannot hold: it is not exported."
        )


def _config(spec: ModelSpec, architecture: MAEArchitecture) -> "ViTMAEConfig":
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


LAYOUT = DirectoryLayout(lambda config: config.get("model_type") == "vit_mae", read, export)
