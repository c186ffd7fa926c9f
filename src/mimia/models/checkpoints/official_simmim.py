"""Files of the official SimMIM (microsoft/SimMIM): with a ViT, whose names and shapes are ours, or with a Swin.

A Swin opens also without the ``encoder.`` before its names, as exports of the backbone are. A ViT does not: its names
would be those of a BEiT too.
"""

import math
from collections.abc import Collection

import torch

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import official_swin
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.grids import checked_grid, likely_grid, no_grid
from mimia.models.checkpoints.layout import FileLayout, any_starts_with
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.safe import Contents
from mimia.models.checkpoints.saved_settings import from_yacs
from mimia.models.simmim import SimMIMArchitecture, relative_positions
from mimia.models.sizes import divisors
from mimia.runtime.errors import MimiaError

_TABLE = "encoder.rel_pos_bias.relative_position_bias_table"
_BACKBONE = ("patch_embed.proj.weight", "layers.0.blocks.0.attn.relative_position_bias_table")
_OF_CLASS_TOKEN = 3  # rows of the table
_INDEX = "encoder.rel_pos_bias.relative_position_index"


def read(contents: Contents, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a file of the official SimMIM.

    Raises:
        MimiaError: Its sizes cannot be read or contradict each other.
    """
    facts = CheckpointFacts(contents.path, contents.state, from_yacs(contents.beside), given)
    if _is_backbone(facts.state):
        facts.refuse_heads()
        facts.state = {f"encoder.{name}": value for name, value in facts.state.items()}
    if facts.has("encoder.layers."):
        return official_swin.read_facts(facts, "official SimMIM")
    has_decoder = facts.has("decoder.")
    mask_token = facts.has_mask_token("encoder.mask_token", whole=has_decoder)
    width, channels, patch = facts.patches("encoder.patch_embed.proj.weight")
    rows, heads = facts.shape(_TABLE, 2)
    grid = _grid(facts, rows - _OF_CLASS_TOKEN, patch)
    index = relative_positions(grid)
    if not torch.equal(facts.state.get(_INDEX, index), index):
        raise MimiaError(
            f"{facts.path} orders its relative positions otherwise than the official SimMIM: it cannot be read."
        )
    size = (grid[0] * patch, grid[1] * patch)
    spec = facts.spec(channels, visible=has_decoder, image_size=size, patch_size=patch, **facts.simmim_masks(patch))
    architecture = facts.architecture(
        SimMIMArchitecture,
        width=width,
        depth=facts.depth("encoder.blocks"),
        heads=heads,
        decoder=has_decoder,
        mask_token=mask_token,
    )
    kind = "with" if has_decoder else "without"
    return facts.parsed(
        f"official SimMIM (ViT) {kind} decoder", spec, architecture, state={**facts.state, _INDEX: index}
    )


def _grid(facts: CheckpointFacts, offsets: int, patch: int) -> tuple[int, int]:
    """Return the grid of the patches, between which there are so many offsets: (2 * rows - 1) * (2 * columns - 1)."""
    grids = [((down + 1) // 2, (offsets // down + 1) // 2) for down in divisors(offsets) if down % 2 and offsets % 2]
    if _INDEX in facts.state:  # it has a row for each patch, and one for the class token
        pairs = facts.shape(_INDEX, 2)[0] - 1
        grids = [grid for grid in grids if math.prod(grid) == pairs]
        same = [grid for grid in grids if torch.equal(facts.state[_INDEX], relative_positions(grid))]
        grids = same or grids
    found = grids[0] if len(grids) == 1 else likely_grid(facts, grids, patch)
    if found is None:
        raise no_grid(facts, offsets)
    return checked_grid(facts, found, patch)


def _is_backbone(names: Collection[str]) -> bool:
    """Return whether names are of a Swin without what stands before them in a SimMIM."""
    return all(name in names for name in _BACKBONE)


def _recognise(names: Collection[str]) -> bool:
    """Return whether names are of a SimMIM, and not of an MAE whose names all begin with ``encoder.``."""
    if _is_backbone(names):
        return True
    has_positions = "encoder.pos_embed" in names and "encoder.mask_token" not in names
    is_mae = has_positions or any_starts_with("encoder.decoder_")(names)
    return any_starts_with("encoder.patch_embed.proj.")(names) and not is_mae


LAYOUT = FileLayout(_recognise, read)
