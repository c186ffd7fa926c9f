"""Files of the official SimMIM (microsoft/SimMIM): with a ViT, whose names and shapes are ours, or with a Swin."""

from collections.abc import Collection, Mapping
from typing import Any

import torch

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import official_swin
from mimia.models.checkpoints.layout import FileLayout, any_starts_with
from mimia.models.checkpoints.parsed import CheckpointFacts, ParsedCheckpoint
from mimia.models.checkpoints.safe import Contents
from mimia.models.simmim import SimMIMArchitecture, relative_positions
from mimia.runtime.errors import MimiaError

_TABLE = "encoder.rel_pos_bias.relative_position_bias_table"
_INDEX = "encoder.rel_pos_bias.relative_position_index"


def read(contents: Contents, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a file of the official SimMIM.

    Raises:
        MimiaError: Its sizes cannot be read or contradict each other.
    """
    facts = CheckpointFacts(contents.path, contents.state, _said(contents.beside), given)
    if facts.has("encoder.layers."):
        return official_swin.read_facts(facts, "official SimMIM")
    facts.refuse_without_mask_token("encoder.mask_token")
    width, channels, patch = facts.patches("encoder.patch_embed.proj.weight")
    rows, heads = facts.shape(_TABLE, 2)
    grid = (facts.side(rows - 3) + 1) // 2  # the table has a row for each offset, and three for the class token
    facts.refuse_mixtures(facts.said["image_size"], grid, patch)
    index = relative_positions(grid)
    if not torch.equal(facts.state.get(_INDEX, index), index):
        raise MimiaError(
            f"{facts.path} orders its relative positions otherwise than the official SimMIM: it cannot be read."
        )
    spec = facts.spec(channels, image_size=grid * patch, patch_size=patch, **facts.simmim_masks(patch))
    has_decoder = facts.has("decoder.")
    return ParsedCheckpoint(
        f"official SimMIM (ViT) {'with' if has_decoder else 'without'} decoder",
        spec,
        facts.architecture(
            SimMIMArchitecture, width=width, depth=facts.depth("encoder.blocks"), heads=heads, decoder=has_decoder
        ),
        {**facts.state, _INDEX: index},
        tuple(facts.assumed),
    )


def _said(beside: Mapping[str, Any]) -> dict[str, Any]:
    """Return image size, mask ratio and cell size from the settings of the training."""
    data = _table(_table(beside, "config"), "DATA")
    return {
        "image_size": data.get("IMG_SIZE"),
        "mask_ratio": data.get("MASK_RATIO"),
        "cell_size": data.get("MASK_PATCH_SIZE"),
    }


def _table(values: object, name: str) -> Mapping[str, Any]:
    table = values.get(name) if isinstance(values, Mapping) else None
    return table if isinstance(table, Mapping) else {}


def _recognise(names: Collection[str]) -> bool:
    """Return whether names are of a SimMIM, and not of an MAE whose names all begin with ``encoder.``."""
    has_positions = "encoder.pos_embed" in names and "encoder.mask_token" not in names
    is_mae = has_positions or any_starts_with("encoder.decoder_")(names)
    return any_starts_with("encoder.patch_embed.proj.")(names) and not is_mae


LAYOUT = FileLayout(_recognise, read)
