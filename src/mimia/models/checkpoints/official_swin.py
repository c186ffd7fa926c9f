"""Files of the official SimMIM (microsoft/SimMIM) with a Swin Transformer, for which transformers has the model."""

import math
import re
from collections.abc import Iterator, Mapping

from torch import Tensor

from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.huggingface import HuggingFaceArchitecture
from mimia.runtime.errors import MimiaError

_TABLE = "relative_position_bias_table"
_DERIVED = re.compile(r"\.(attn_mask|relative_position_index|rel_position_index)$")  # follow from the sizes
_RENAMED = (  # names of the official code, and of transformers; all that match are replaced, in this order
    (r"^encoder\.mask_token$", "swin.embeddings.mask_token"),
    (r"^encoder\.patch_embed\.proj\.", "swin.embeddings.patch_embeddings.projection."),
    (r"^encoder\.patch_embed\.norm\.", "swin.embeddings.norm."),
    (r"^encoder\.norm\.", "swin.layernorm."),
    (r"^encoder\.", "swin.encoder."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    (rf"\.attn\.{_TABLE}$", f".attention.relative_position_bias.{_TABLE}"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)


def read_facts(facts: CheckpointFacts, maker: str) -> ParsedCheckpoint:
    """Read weights that have the names of the official SimMIM with a Swin Transformer.

    Args:
        facts: What is known of the model.
        maker: Whose layout it was, for a person.

    Raises:
        MimiaError: Sizes cannot be read, contradict each other, or are none that transformers' model can have.
    """
    has_decoder = facts.has("decoder.")
    mask_token = facts.has_mask_token("encoder.mask_token", whole=has_decoder)
    width, channels, patch = facts.patches("encoder.patch_embed.proj.weight")
    stages = facts.depth("encoder.layers")
    tables = [
        facts.shape(f"encoder.layers.{stage}.blocks.0.attn.{_TABLE}", 2) for stage in range(stages)
    ]  # a row for each offset within a window, a column for each head
    windows = {(math.isqrt(rows) + 1) // 2 for rows, _ in tables if math.isqrt(rows) ** 2 == rows}
    if len(windows) != 1:
        raise MimiaError(
            f"{facts.path} has windows of {' and '.join(map(str, sorted(windows)))} patches, and transformers' Swin "
            "has one size for all stages: it does not open."
        )
    image_size = facts.stated("image_size")
    if image_size is None:
        raise MimiaError(
            f"{facts.path} is a Swin, whose weights fit images of any size: pass --set checkpoint.image_size=N, the "
            "side of its training images."
        )
    hidden = facts.shape("encoder.layers.0.blocks.0.mlp.fc1.weight", 2)[0]
    architecture = facts.architecture(
        HuggingFaceArchitecture,
        model_type="swin",
        config={
            "embed_dim": width,
            "depths": [facts.depth(f"encoder.layers.{stage}.blocks") for stage in range(stages)],
            "num_heads": [heads for _, heads in tables],
            "window_size": windows.pop(),
            "mlp_ratio": hidden / width,
            "encoder_stride": patch * 2 ** (stages - 1),
        },
        decoder=has_decoder,
        mask_token=mask_token,
    )
    masks = facts.simmim_masks(patch)
    spec = facts.spec(channels, visible=has_decoder, image_size=image_size, patch_size=patch, **masks)
    kind = "with" if has_decoder else "without"
    return facts.parsed(f"{maker} (Swin) {kind} decoder", spec, architecture, state=dict(_of_transformers(facts.state)))


def _of_transformers(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    for name, value in state.items():
        if _DERIVED.search(name):
            continue
        new = name
        for old, replacement in _RENAMED:
            new = re.sub(old, replacement, new)
        if ".attn.qkv." in new:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                yield f"model.{new.replace('.attn.qkv.', f'.attention.{part}_proj.')}", rows
        else:
            yield f"model.{new}", value
