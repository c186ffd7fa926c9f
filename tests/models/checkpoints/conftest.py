"""Checkpoints as other people write them, from random weights, with names and shapes from their own code."""

import itertools
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

State = dict[str, Tensor]


def _block(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {
        f"{name}.norm1.weight": (width,),
        f"{name}.norm1.bias": (width,),
        f"{name}.attn.qkv.weight": (3 * width, width),
        f"{name}.attn.qkv.bias": (3 * width,),
        f"{name}.attn.proj.weight": (width, width),
        f"{name}.attn.proj.bias": (width,),
        f"{name}.norm2.weight": (width,),
        f"{name}.norm2.bias": (width,),
        f"{name}.mlp.fc1.weight": (4 * width, width),
        f"{name}.mlp.fc1.bias": (4 * width,),
        f"{name}.mlp.fc2.weight": (width, 4 * width),
        f"{name}.mlp.fc2.bias": (width,),
    }


def random_state(shapes: dict[str, tuple[int, ...]]) -> State:
    """Weights, no two of which are alike."""
    generator = torch.Generator().manual_seed(0)
    scale = {True: 0.3, False: 0.05}  # vectors larger, so that each of them shows in the output
    return {
        name: scale[len(shape) == 1] * torch.randn(shape, generator=generator) + (".norm" in name) * 0.8
        for name, shape in shapes.items()
    }


@pytest.fixture(scope="session")
def mae_state() -> Callable[..., State]:
    """Make weights of an MAE under the names of the official code; a decoder of width 0 is none."""

    def make(
        width: int = 48,
        depth: int = 2,
        decoder_width: int = 32,
        decoder_depth: int = 1,
        patch: int = 4,
        grid: int = 3,
        channels: int = 3,
    ) -> State:
        shapes: dict[str, tuple[int, ...]] = {
            "cls_token": (1, 1, width),
            "pos_embed": (1, 1 + grid**2, width),
            "patch_embed.proj.weight": (width, channels, patch, patch),
            "patch_embed.proj.bias": (width,),
        }
        for number in range(depth):
            shapes |= _block(f"blocks.{number}", width)
        shapes |= {"norm.weight": (width,), "norm.bias": (width,)}
        if decoder_width:
            shapes |= {
                "mask_token": (1, 1, decoder_width),
                "decoder_embed.weight": (decoder_width, width),
                "decoder_embed.bias": (decoder_width,),
                "decoder_pos_embed": (1, 1 + grid**2, decoder_width),
            }
            for number in range(decoder_depth):
                shapes |= _block(f"decoder_blocks.{number}", decoder_width)
            shapes |= {
                "decoder_norm.weight": (decoder_width,),
                "decoder_norm.bias": (decoder_width,),
                "decoder_pred.weight": (patch**2 * channels, decoder_width),
                "decoder_pred.bias": (patch**2 * channels,),
            }
        return random_state(shapes)

    return make


_ON_THE_HUB = (
    (r"^decoder_blocks\.", "decoder.decoder_layers."),
    (r"^blocks\.", "vit.encoder.layer."),
    (r"^(cls_token)$", r"vit.embeddings.\1"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^norm\.", "vit.layernorm."),
    (r"^(mask_token|decoder_)", r"decoder.\1"),
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


@pytest.fixture
def save_transformers() -> Callable[..., Path]:
    """Write an MAE as the files on the hub are, which have other names than transformers gives them in memory."""

    def save(directory: Path, state: State, heads: int = 3, decoder_heads: int = 4, **changes: Any) -> Path:
        named: State = {}
        for name, value in state.items():
            new = name
            for old, replacement in _ON_THE_HUB:
                new = re.sub(old, replacement, new)
            if ".attn.qkv." in new:
                for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    named[new.replace(".attn.qkv.", f".attention.attention.{part}.")] = rows.clone()
            else:
                named[new] = value.clone()
        directory.mkdir(parents=True)
        save_file(named, directory / "model.safetensors", metadata={"format": "pt"})
        width, channels, patch, _ = state["patch_embed.proj.weight"].shape
        decoder_width = len(state.get("decoder_embed.bias", "x" * 512))
        config: dict[str, Any] = {
            "architectures": ["ViTMAEForPreTraining"],
            "model_type": "vit_mae",
            "hidden_size": width,
            "num_hidden_layers": sum(bool(re.fullmatch(r"blocks\.\d+\.norm1\.bias", name)) for name in state),
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "decoder_hidden_size": decoder_width,
            "decoder_num_hidden_layers": sum("decoder_blocks" in name and "norm1.bias" in name for name in state),
            "decoder_num_attention_heads": decoder_heads,
            "decoder_intermediate_size": 4 * decoder_width,
            "image_size": patch * math.isqrt(state["pos_embed"].shape[1]),
            "patch_size": patch,
            "num_channels": channels,
            "layer_norm_eps": 1e-6,
            "mask_ratio": 0.75,
            "norm_pix_loss": False,
        }
        (directory / "config.json").write_text(json.dumps(config | changes))
        return directory

    return save


def _swin_state() -> State:
    """Give two stages of two blocks, windows of 4 patches."""
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.mask_token": (1, 1, 16),
        "encoder.patch_embed.proj.weight": (16, 3, 2, 2),
        "encoder.patch_embed.proj.bias": (16,),
        "encoder.patch_embed.norm.weight": (16,),
        "encoder.patch_embed.norm.bias": (16,),
        "encoder.norm.weight": (32,),
        "encoder.norm.bias": (32,),
        "encoder.layers.0.downsample.reduction.weight": (32, 64),
        "encoder.layers.0.downsample.norm.weight": (64,),
        "encoder.layers.0.downsample.norm.bias": (64,),
        "decoder.0.weight": (48, 32, 1, 1),
        "decoder.0.bias": (48,),
    }
    for stage, blocks in enumerate((2, 2)):
        width = 16 * 2**stage
        for block in range(blocks):
            name = f"encoder.layers.{stage}.blocks.{block}"
            vectors = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.proj.bias", "mlp.fc2.bias")
            shapes |= {f"{name}.{vector}": (width,) for vector in vectors}
            shapes |= {f"{name}.attn.qkv.weight": (3 * width, width), f"{name}.attn.qkv.bias": (3 * width,)}
            shapes |= {f"{name}.attn.relative_position_bias_table": (49, 2 * 2**stage)}
            shapes |= {f"{name}.attn.proj.weight": (width, width), f"{name}.mlp.fc1.weight": (4 * width, width)}
            shapes |= {f"{name}.mlp.fc1.bias": (4 * width,), f"{name}.mlp.fc2.weight": (width, 4 * width)}
    state = random_state(shapes)
    state["encoder.layers.0.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    state["encoder.layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.int64)
    return state


def _vit_state() -> State:
    """Give two blocks of 3 heads, 4 by 4 patches of 4 pixels."""
    width, grid, patch = 24, 4, 4
    shapes: dict[str, tuple[int, ...]] = {
        "encoder.cls_token": (1, 1, width),
        "encoder.mask_token": (1, 1, width),
        "encoder.patch_embed.proj.weight": (width, 3, patch, patch),
        "encoder.patch_embed.proj.bias": (width,),
        "encoder.rel_pos_bias.relative_position_bias_table": ((2 * grid - 1) ** 2 + 3, 3),
        "encoder.norm.weight": (width,),
        "encoder.norm.bias": (width,),
        "decoder.0.weight": (patch**2 * 3, width, 1, 1),
        "decoder.0.bias": (patch**2 * 3,),
    }
    for number in range(2):
        name = f"encoder.blocks.{number}"
        shapes |= {f"{name}.{norm}.{kind}": (width,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        shapes |= {f"{name}.{vector}": (width,) for vector in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")}
        shapes |= {f"{name}.attn.qkv.weight": (3 * width, width), f"{name}.attn.proj.weight": (width, width)}
        shapes |= {f"{name}.attn.proj.bias": (width,), f"{name}.mlp.fc1.weight": (4 * width, width)}
        shapes |= {f"{name}.mlp.fc1.bias": (4 * width,), f"{name}.mlp.fc2.weight": (width, 4 * width)}
        shapes |= {f"{name}.mlp.fc2.bias": (width,)}
    index = torch.full((17, 17), (2 * grid - 1) ** 2)  # of the class token to a patch
    index[1:, 0] += 1
    index[0, 0] += 2
    for i, j in itertools.product(range(16), repeat=2):
        down, across = i // grid - j // grid, i % grid - j % grid
        index[1 + i, 1 + j] = (down + grid - 1) * (2 * grid - 1) + across + grid - 1
    return random_state(shapes) | {"encoder.rel_pos_bias.relative_position_index": index}


@pytest.fixture(scope="session")
def all_simmim_states() -> dict[str, State]:
    """Weights under the names of the official SimMIM, with a ViT and with a Swin, for images of 16 by 16 pixels."""
    return {"vit": _vit_state(), "swin": _swin_state()}


@pytest.fixture
def simmim_states(all_simmim_states: dict[str, State]) -> dict[str, State]:
    """The same weights, in dictionaries that a test may change."""
    return {kind: dict(state) for kind, state in all_simmim_states.items()}


@pytest.fixture(scope="session")
def states(mae_state: Callable[..., State], all_simmim_states: dict[str, State]) -> dict[str, State]:
    """Weights under the names of each layout of single files."""
    from tests.models.checkpoints.test_mmpretrain import _MAE, mm_simmim, renamed

    return {
        "MAE": mae_state(),
        "MAE encoder": mae_state(decoder_width=0),
        "SimMIM": all_simmim_states["vit"],
        "SimMIM Swin": all_simmim_states["swin"],
        "mmpretrain MAE": renamed(mae_state(), _MAE),
        "mmpretrain SimMIM": mm_simmim(all_simmim_states["swin"]),
    }
