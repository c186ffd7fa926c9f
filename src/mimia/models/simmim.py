"""SimMIM with a ViT (Xie et al., arXiv 2111.09886), shaped and named as in the official code.

The encoder sees the whole grid, with a learned token in the place of each masked patch. It is shaped like BEiT's: a
relative position bias that all blocks share, scaled residuals (LayerScale), no absolute positions.
"""

import math
from typing import Any, ClassVar, Literal

import torch
from pydantic import PositiveInt, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.config.recipes import SizeName
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.family import DecoderInterface, Family
from mimia.models.masking import Grid
from mimia.models.patches import equal_visible, patchify, refuse_masks
from mimia.models.sizes import Depth, Width, check_heads, check_paired
from mimia.models.vit import LAYER_NORM_EPS, Mlp, PatchEmbed


class SimMIMArchitecture(Architecture):
    """Width, depth and heads of the encoder, and whether it has its decoder.

    Attributes:
        mask_token: Whether the encoder has a token for masked patches, which exports of an encoder alone may lack.
    """

    later: ClassVar[frozenset[str]] = frozenset({"mask_token"})

    family: Literal["simmim"] = "simmim"
    width: Width
    depth: Depth
    heads: PositiveInt
    decoder: bool = True
    mask_token: bool = True

    @model_validator(mode="after")
    def _divisible(self) -> "SimMIMArchitecture":
        check_heads(self.width, self.heads)
        return self


SIZES: dict[SizeName, SimMIMArchitecture] = {
    "nano": SimMIMArchitecture(width=64, depth=3, heads=4),
    "micro": SimMIMArchitecture(width=128, depth=4, heads=4),
    "tiny": SimMIMArchitecture(width=192, depth=12, heads=3),
    "small": SimMIMArchitecture(width=384, depth=12, heads=6),
    "base": SimMIMArchitecture(width=768, depth=12, heads=12),  # the one of the paper
    "large": SimMIMArchitecture(width=1024, depth=24, heads=16),
    "huge": SimMIMArchitecture(width=1280, depth=32, heads=16),
}


class SimMIM(MaskedImageModel):
    """A ViT that predicts the pixels of masked patches by one linear layer.

    Args:
        spec: Images, masking and target space.
        architecture: Sizes of the encoder.
        generator: Source of the initial weights; without it they are left for a checkpoint to fill.
    """

    def __init__(
        self,
        spec: ModelSpec,
        architecture: SimMIMArchitecture,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.architecture: SimMIMArchitecture = architecture
        self.encoder = _Encoder(spec, architecture)
        if architecture.decoder:
            values = spec.patch_size**2 * spec.channels
            self.decoder = nn.Sequential(nn.Conv2d(architecture.width, values, kernel_size=1))
        if generator is not None:
            self._initialise(generator)

    def _initialise(self, generator: torch.Generator) -> None:
        """Normal(.02) matrices and tokens, smaller where a deeper block writes; a zero position bias.

        The official code cuts the distribution at .02, one standard deviation.
        """
        drawn: list[Tensor] = [self.encoder.cls_token]
        if self.encoder.mask_token is not None:
            drawn.append(self.encoder.mask_token)
        for module in self.encoder.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                drawn.append(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for value in drawn:
            nn.init.trunc_normal_(value, std=0.02, a=-0.02, b=0.02, generator=generator)
        for layer, block in enumerate(self.encoder.blocks, start=1):
            assert isinstance(block, _Block)
            with torch.no_grad():
                block.attn.proj.weight /= math.sqrt(2 * layer)
                block.mlp.fc2.weight /= math.sqrt(2 * layer)
        if self.has_decoder:
            head = self.head
            bound = 1 / math.sqrt(head.in_channels)  # what the official code leaves to torch's default
            for value in head.parameters():
                nn.init.uniform_(value, -bound, bound, generator=generator)

    @property
    def has_decoder(self) -> bool:
        """Whether it can reconstruct, or is an encoder alone."""
        return self.architecture.decoder

    def tokens(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the visible patches: (B, K, visible, D)."""
        visible = equal_visible(masks)
        encoded = self.encode(images, masks)
        return encoded[~masks].view(*masks.shape[:2], visible, -1)

    def reconstruct(self, images: Tensor, masks: Tensor) -> Tensor:
        """Predict all patches in data-set-normalised pixels: (B, K, L, p*p*C)."""
        predicted = F.linear(self.encode(images, masks), self.head.weight.flatten(1), self.head.bias)
        # The official code shuffles channels to pixels, in the order (c, p, q).
        blocks = predicted.view(*masks.shape, self.spec.channels, -1)
        return blocks.transpose(-1, -2).flatten(-2).float()

    def patch_errors(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Mean absolute error of each patch, in data-set-normalised pixels: (B, K, L)."""
        return absolute_errors(self.spec, predictions, images)

    @property
    def head(self) -> nn.Conv2d:
        """The decoder, which is one layer."""
        head = self.decoder[0]
        assert isinstance(head, nn.Conv2d)
        return head

    def encode(self, images: Tensor, masks: Tensor) -> Tensor:
        """Encode the whole grid: (B, K, L, D).

        Raises:
            MimiaError: A patch is masked, and there is no mask token.
        """
        encoded: Tensor = self.encoder(self.spec.normalise(images), masks)
        return encoded


class _Encoder(nn.Module):
    def __init__(self, spec: ModelSpec, architecture: SimMIMArchitecture) -> None:
        super().__init__()
        width, heads = architecture.width, architecture.heads
        self.patch_embed = PatchEmbed(spec.patch_size, spec.channels, width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width)) if architecture.mask_token else None
        self.rel_pos_bias = _RelativePositionBias(spec.grid, heads)
        self.blocks = nn.ModuleList(_Block(width, heads) for _ in range(architecture.depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, pixels: Tensor, masks: Tensor) -> Tensor:
        """Encode data-set-normalised pixels under masks: (B, C, H, W), (B, K, L) -> (B, K, L, D)."""
        patches = self.patch_embed(pixels).unsqueeze(1)  # (B, 1, L, D)
        if self.mask_token is None:
            refuse_masks(masks)
            x = patches.expand(-1, masks.shape[1], -1, -1).flatten(0, 1)
        else:
            x = torch.where(masks.unsqueeze(-1), self.mask_token.to(patches.dtype), patches).flatten(0, 1)
        cls_token = self.cls_token.to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat([cls_token, x], dim=1)
        bias = self.rel_pos_bias()
        for block in self.blocks:
            x = block(x, bias)
        encoded: Tensor = self.norm(x)[:, 1:]
        return encoded.reshape(*masks.shape, -1)


class _RelativePositionBias(nn.Module):
    """What is added to the attention between two places: (1, heads, 1 + L, 1 + L)."""

    relative_position_index: Tensor

    def __init__(self, grid: Grid, heads: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(offsets(grid) + 3, heads))
        self.register_buffer("relative_position_index", relative_positions(grid))

    def forward(self) -> Tensor:
        bias = self.relative_position_bias_table[self.relative_position_index]
        return bias.permute(2, 0, 1).unsqueeze(0)


class _Attention(nn.Module):
    """Multi-head self-attention with a position bias, and without a bias of the keys: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(width))
        self.v_bias = nn.Parameter(torch.zeros(width))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, position_bias: Tensor) -> Tensor:
        bias = torch.cat([self.q_bias, torch.zeros_like(self.v_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias).view(*x.shape[:2], 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=position_bias.to(query.dtype))
        out: Tensor = self.proj(mixed.transpose(1, 2).flatten(2))
        return out


class _Block(nn.Module):
    """A pre-norm transformer block whose residuals are scaled channel by channel: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width, 4 * width)
        self.gamma_1 = nn.Parameter(torch.full((width,), 0.1))
        self.gamma_2 = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, position_bias: Tensor) -> Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x), position_bias)
        out: Tensor = x + self.gamma_2 * self.mlp(self.norm2(x))
        return out


def absolute_errors(spec: ModelSpec, predictions: Tensor, images: Tensor) -> Tensor:
    """Return SimMIM's loss of each patch: the mean absolute error of its pixels, (B, K, L).

    Args:
        spec: How pixels are normalised.
        predictions: Data-set-normalised pixels, (B, K, L, p*p*C).
        images: Raw pixels, (B, C, H, W).
    """
    target = patchify(spec.normalise(images), spec.patch_size)
    return (predictions - target.unsqueeze(1)).abs().mean(dim=-1)


def offsets(grid: Grid) -> int:
    """Return the number of different offsets between two patches of a grid."""
    rows, columns = grid
    return (2 * rows - 1) * (2 * columns - 1)


def relative_positions(grid: Grid) -> Tensor:
    """Return the row of the bias table for each pair of positions, the class token first: (1 + L, 1 + L).

    The table has a row for each offset of rows and columns, then one for class token to patch, patch to class token,
    and class token to itself.

    Raises:
        MimiaError: The grid is too large for a number for each pair.
    """
    rows, columns = grid
    tokens = rows * columns
    check_paired(tokens)
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    down = row.flatten()[:, None] - row.flatten() + rows - 1
    across = column.flatten()[:, None] - column.flatten() + columns - 1
    index = torch.empty(1 + tokens, 1 + tokens, dtype=torch.long)
    index[1:, 1:] = down * (2 * columns - 1) + across
    index[0, :] = offsets(grid)
    index[:, 0] = offsets(grid) + 1
    index[0, 0] = offsets(grid) + 2
    return index


DECODER = DecoderInterface(
    contains=lambda name: name.startswith("decoder."),
    attach=lambda encoder, _: encoder.model_copy(update={"decoder": True, "mask_token": True}),
    latents=lambda model, images, masks: model.encode(images, masks)[masks],
    first_layer=lambda model: model.head,
    masked_patch="encoder.mask_token",
)
_RECIPE: dict[str, Any] = {"mask_ratio": 0.6, "betas": (0.9, 0.999), "gradient_clip": 5.0, "crop_scale": (0.67, 1.0)}
SMALL_RECIPE = _RECIPE | {"epochs": 400, "batch_size": 100, "base_learning_rate": 4e-3}
IMAGENET_RECIPE = _RECIPE | {"epochs": 800, "batch_size": 2048, "base_learning_rate": 5e-5, "augmentation": "crop"}
FAMILY = Family(
    architecture=SimMIMArchitecture,
    build=SimMIM,
    architecture_for=lambda recipe, *_: SIZES[recipe.size],
    presets={
        "simmim-nano": SMALL_RECIPE | {"size": "nano", "patch_size": 2, "cell": 1},
        "simmim-micro": SMALL_RECIPE | {"size": "micro", "patch_size": 4, "cell": 2},
        "simmim-base": IMAGENET_RECIPE | {"size": "base", "patch_size": 16, "cell": 2},
    },
    masking="cell",
    target_space="normalised",
    recipe_keys=frozenset({"cell"}),
    on_meta=True,
    decoder=DECODER,
)
