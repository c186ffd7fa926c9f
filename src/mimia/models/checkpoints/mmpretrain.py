"""Files of mmpretrain (open-mmlab), and of mmselfsup before it: MAE with a ViT, and SimMIM with a Swin."""

import re
from collections.abc import Mapping

from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import official_mae, official_swin
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.layout import FileLayout, any_starts_with
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.safe import Contents
from mimia.models.checkpoints.saved_settings import from_mmengine
from mimia.runtime.errors import MimiaError

_Names = tuple[tuple[str, str], ...]  # of mmpretrain, and of the official code; all that match are replaced, in order
_BOTH: _Names = (
    (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
    (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
)
_MAE: _Names = (
    (r"^backbone\.patch_embed\.projection\.", "patch_embed.proj."),
    (r"^backbone\.layers\.", "blocks."),
    (r"^backbone\.ln1\.", "norm."),
    (r"^backbone\.", ""),
    (r"^neck\.ln1\.", "decoder_norm."),
    (r"^neck\.", ""),
    (r"\.ln([12])\.", r".norm\1."),
    *_BOTH,
)
_SIMMIM: _Names = (
    (r"^backbone\.patch_embed\.projection\.", "encoder.patch_embed.proj."),
    (r"^backbone\.stages\.", "encoder.layers."),
    (r"^backbone\.norm\d\.", "encoder.norm."),
    (r"^backbone\.", "encoder."),
    (r"^neck\.", ""),
    (r"\.w_msa\.", "."),
    *_BOTH,
)


def read(contents: Contents, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a file of mmpretrain.

    Raises:
        MimiaError: It is of another method, or its sizes contradict each other.
    """
    facts = CheckpointFacts(contents.path, contents.state, from_mmengine(contents.beside), given)
    facts.refuse_heads()
    if facts.has("backbone.layers.0.ln1.") and facts.has("backbone.pos_embed"):
        facts.state = _renamed(contents.state, _MAE)
        return official_mae.read_facts(facts, "mmpretrain MAE")
    if facts.has("backbone.stages.0.blocks.0.attn.w_msa."):
        facts.state = _renamed(contents.state, _SIMMIM)
        return official_swin.read_facts(facts, "mmpretrain SimMIM")
    raise MimiaError(
        f"{contents.path} is a checkpoint of mmpretrain, but neither of its MAE with a ViT nor of its SimMIM with a "
        "Swin: other methods cannot be loaded."
    )


def _renamed(state: Mapping[str, Tensor], names: _Names) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        new = name
        for old, replacement in names:
            new = re.sub(old, replacement, new)
        renamed[new] = _regrouped(value) if ".downsample." in new else value
    return renamed


def _regrouped(merging: Tensor) -> Tensor:
    """Return weights of a merging of 2 × 2 patches, (…, 4 * C), in the order of the official code.

    mmpretrain goes through channels and then through the patches of each, (row, column); the official code through
    patches, (column, row), and then through the channels of each.
    """
    by_channel = merging.view(*merging.shape[:-1], -1, 2, 2)  # (…, C, row, column)
    return by_channel.movedim(-3, -1).transpose(-3, -2).flatten(-3)


LAYOUT = FileLayout(any_starts_with("backbone.patch_embed.projection."), read)
