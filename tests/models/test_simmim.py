import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import BeitConfig, BeitModel

from mimia.models.base import ModelSpec
from mimia.models.patches import unpatchify
from mimia.models.simmim import SIZES, SimMIM, SimMIMArchitecture

WIDE = SimMIMArchitecture(width=768, depth=1, heads=12)
SIGNALS = [
    pytest.param(SIZES["nano"], 8, 2, 1, 1, id="nano"),
    pytest.param(SIZES["nano"], 15, 3, 3, 1, id="nano of 5 by 5 patches"),
    pytest.param(SIZES["micro"], 32, 4, 3, 2, id="micro"),
    pytest.param(SIZES["tiny"], 12, 4, 1, 1, id="tiny of 3 by 3 patches"),
    pytest.param(WIDE, 64, 16, 3, 2, id="as wide as ViT-B"),
]


def make_spec(image_size: int = 8, patch_size: int = 2, channels: Literal[1, 3] = 1, cell: int = 1) -> ModelSpec:
    return ModelSpec(
        image_size=image_size,
        channels=channels,
        patch_size=patch_size,
        masking="cell",
        mask_ratio=0.6,
        cell=cell,
        target_space="normalised",
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )


def make_model(spec: ModelSpec, architecture: SimMIMArchitecture = SIZES["nano"]) -> SimMIM:
    """Make a model in which no two parameters are alike, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(0)
    model = SimMIM(spec, architecture, generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def make_images(spec: ModelSpec, count: int) -> Tensor:
    shape = (count, *spec.shape)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    ids = np.array([f"image {number}" for number in range(count)])
    return torch.from_numpy(spec.scoring_masks(ids, draws, seed=0))


class SlowSimMim:
    """SimMIM with a ViT of one image and mask, from the official parameters, patch by patch and head by head."""

    def __init__(self, model: SimMIM) -> None:
        self.spec = model.spec
        self.heads = model.architecture.heads
        self.depth = model.architecture.depth
        self.state: dict[str, Tensor] = {name: value.double() for name, value in model.state_dict().items()}

    def encode(self, pixels: Tensor, mask: Tensor) -> Tensor:
        """Encode data-set-normalised pixels: (C, H, W), (L,) -> (L, D)."""
        size = self.spec.patch_size
        rows = [self.state["encoder.cls_token"].flatten()]
        for patch in range(self.spec.tokens):
            top, left = (size * place for place in divmod(patch, self.spec.grid[1]))
            block = pixels[:, top : top + size, left : left + size]
            kernel = self.state["encoder.patch_embed.proj.weight"]
            embedded = (kernel * block).sum(dim=(1, 2, 3)) + self.state["encoder.patch_embed.proj.bias"]
            rows.append(self.state["encoder.mask_token"].flatten() if mask[patch] else embedded)
        x = torch.stack(rows)
        for number in range(self.depth):
            block_name = f"encoder.blocks.{number}"
            mixed = self.attend(f"{block_name}.attn", self.layer_norm(f"{block_name}.norm1", x))
            x = x + self.state[f"{block_name}.gamma_1"] * mixed
            hidden = self.linear(f"{block_name}.mlp.fc1", self.layer_norm(f"{block_name}.norm2", x))
            hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
            x = x + self.state[f"{block_name}.gamma_2"] * self.linear(f"{block_name}.mlp.fc2", hidden)
        return self.layer_norm("encoder.norm", x)[1:]

    def attend(self, name: str, x: Tensor) -> Tensor:
        query_bias, value_bias = self.state[f"{name}.q_bias"], self.state[f"{name}.v_bias"]
        bias = torch.cat([query_bias, torch.zeros_like(query_bias), value_bias])
        out = []
        query, key, value = (x @ self.state[f"{name}.qkv.weight"].T + bias).chunk(3, dim=1)
        for head, parts in enumerate(
            zip(*(each.chunk(self.heads, dim=1) for each in (query, key, value)), strict=True)
        ):
            weights = torch.einsum("id,jd->ij", parts[0], parts[1]) / math.sqrt(parts[0].shape[1])
            for i, j in np.ndindex(*weights.shape):
                weights[i, j] += self.position_bias(i, j)[head]
            out.append(torch.einsum("ij,jd->id", weights.softmax(dim=1), parts[2]))
        return self.linear(f"{name}.proj", torch.cat(out, dim=1))

    def position_bias(self, i: int, j: int) -> Tensor:
        """Row of the bias table for the attention of place i to place j, of which 0 is the class token."""
        table = self.state["encoder.rel_pos_bias.relative_position_bias_table"]
        rows, columns = self.spec.grid
        offsets = (2 * rows - 1) * (2 * columns - 1)
        if i == 0 and j == 0:
            return table[offsets + 2]
        if j == 0:
            return table[offsets + 1]
        if i == 0:
            return table[offsets]
        down = (i - 1) // columns - (j - 1) // columns
        across = (i - 1) % columns - (j - 1) % columns
        return table[(down + rows - 1) * (2 * columns - 1) + across + columns - 1]

    def layer_norm(self, name: str, x: Tensor) -> Tensor:
        variance = ((x - x.mean(dim=1, keepdim=True)) ** 2).mean(dim=1, keepdim=True)
        normed = (x - x.mean(dim=1, keepdim=True)) / (variance + 1e-6).sqrt()
        return normed * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.state[f"{name}.weight"].T + self.state[f"{name}.bias"]

    def reconstruct(self, encoded: Tensor) -> Tensor:
        """Predict an image: (L, D) -> (C, H, W)."""
        kernel = self.state["decoder.0.weight"][:, :, 0, 0]
        channels = torch.einsum("ld,cd->cl", encoded, kernel) + self.state["decoder.0.bias"][:, None]
        return F.pixel_shuffle(channels.view(-1, *self.spec.grid), self.spec.patch_size)

    def loss(self, pixels: Tensor, predicted: Tensor, mask: Tensor) -> Tensor:
        size = self.spec.patch_size
        hidden = mask.view(self.spec.grid).repeat_interleave(size, 0).repeat_interleave(size, 1)
        return ((pixels - predicted).abs() * hidden).sum() / (hidden.sum() + 1e-5) / self.spec.channels


@pytest.mark.parametrize(("architecture", "image_size", "patch_size", "channels", "cell"), SIGNALS)
def test_tokens_predictions_and_distances_follow_the_definition(
    architecture: SimMIMArchitecture, image_size: int, patch_size: int, channels: Literal[1, 3], cell: int
) -> None:
    spec = make_spec(image_size, patch_size, channels, cell)
    model = make_model(spec, architecture)
    slow = SlowSimMim(model)
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    with torch.inference_mode():
        tokens, distances, loss = model.tokens(images, masks), model.distances(images, masks), model.loss(images, masks)
        patches = model.reconstruct(images, masks)
        for image, draw in [(0, 0), (1, 1)]:
            pixels = spec.normalise(images[image : image + 1])[0].double()
            encoded = slow.encode(pixels, masks[image, draw])
            predicted = slow.reconstruct(encoded)
            whole = unpatchify(patches[image, draw][None], patch_size, spec.grid)[0]
            expected = slow.loss(pixels, predicted, masks[image, draw])
            torch.testing.assert_close(tokens[image, draw], encoded[~masks[image, draw]].float(), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(whole, predicted.float(), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(distances[image, draw], expected.float(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(loss, distances.mean())


def as_transformers(model: SimMIM) -> Any:
    """Give the encoder as transformers' BEiT, which with a last normalisation is the same network."""
    spec, architecture = model.spec, model.architecture
    config = BeitConfig(
        image_size=spec.image_size,
        patch_size=spec.patch_size,
        num_channels=spec.channels,
        hidden_size=architecture.width,
        num_hidden_layers=architecture.depth,
        num_attention_heads=architecture.heads,
        intermediate_size=4 * architecture.width,
        layer_norm_eps=1e-6,
        use_mask_token=True,
        use_shared_relative_position_bias=True,
        use_mean_pooling=False,
    )
    renamed = {
        "patch_embed.proj": "embeddings.patch_embeddings.projection",
        "cls_token": "embeddings.cls_token",
        "mask_token": "embeddings.mask_token",
        "rel_pos_bias": "shared_position_bias",
        "blocks": "layers",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "attn.q_bias": "attention.q_proj.bias",
        "attn.v_bias": "attention.v_proj.bias",
        "gamma_": "lambda_",
    }
    state: dict[str, Tensor] = {}
    for key, value in model.encoder.state_dict().items():
        name = "layernorm" + key.removeprefix("norm") if key.startswith("norm.") else key
        for old, new in renamed.items():
            name = name.replace(old, new)
        if ".qkv." in name:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                state[name.replace("attn.qkv", f"attention.{part}_proj")] = rows
        elif "position_index" not in name:
            state[name] = value
    reference: Any = BeitModel(config, add_pooling_layer=False)
    reference.load_state_dict(state)
    return reference.eval()


@pytest.mark.parametrize(("architecture", "image_size", "patch_size", "channels", "cell"), SIGNALS)
def test_encoder_is_the_beit_of_transformers_with_a_last_normalisation(
    architecture: SimMIMArchitecture, image_size: int, patch_size: int, channels: Literal[1, 3], cell: int
) -> None:
    spec = make_spec(image_size, patch_size, channels, cell)
    model = make_model(spec, architecture)
    reference = as_transformers(model)
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    with torch.no_grad():
        tokens = model.tokens(images, masks)
        for image, draw in np.ndindex(2, 2):
            mask = masks[image, draw][None]
            encoded = reference(spec.normalise(images[image : image + 1]), bool_masked_pos=mask).last_hidden_state
            torch.testing.assert_close(tokens[image, draw], encoded[0, 1:][~mask[0]], rtol=1e-5, atol=1e-5)


def test_tokens_see_where_masked_patches_are_but_not_what_is_there() -> None:
    spec = make_spec()
    model = make_model(spec)
    images, masks = make_images(spec, 1), make_masks(spec, 1, draws=1)
    moved = masks.roll(1, dims=-1)
    shown = ~(masks | moved)[0, 0]
    hidden = unpatchify(masks[:, 0, :, None].expand(-1, -1, 4).clone(), 2, spec.grid)
    with torch.inference_mode():
        tokens, others = model.tokens(images, masks), model.tokens(images, moved)
        assert torch.equal(tokens, model.tokens(torch.where(hidden, 255 - images, images), masks))
        kept, kept_too = tokens[0, 0, shown[~masks[0, 0]]], others[0, 0, shown[~moved[0, 0]]]
        assert len(kept)
        assert not torch.isclose(kept, kept_too).all()


def test_initial_matrices_and_tokens_are_cut_at_one_standard_deviation_and_shrink_with_depth() -> None:
    model = SimMIM(make_spec(channels=3), SIZES["micro"], torch.Generator().manual_seed(0))
    # Of a normal distribution that is cut at ±s, the standard deviation is .5396 s.
    cut = 0.5396 * 0.02
    for name, value in model.encoder.named_parameters():
        layer = int(name.split(".")[1]) + 1 if name.startswith("blocks") else 1
        written = name.endswith(("attn.proj.weight", "mlp.fc2.weight"))
        scale = 1 / math.sqrt(2 * layer) if written else 1.0
        if value.ndim > 1 and "bias_table" not in name:
            assert value.std().item() == pytest.approx(cut * scale, rel=0.15), name
            assert value.abs().max() <= 0.02 * scale + 1e-9, name
        else:
            constant = 0.1 if "gamma" in name else float("norm" in name and name.endswith("weight"))
            assert torch.equal(value, torch.full_like(value, constant)), name
    bound = 1 / math.sqrt(SIZES["micro"].width)
    for value in model.decoder.parameters():
        assert 0.9 * bound < value.abs().max() <= bound
