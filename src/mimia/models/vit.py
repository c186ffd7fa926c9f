"""The parts of a Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), named as in the official MAE.

The layout of the parameters is the one that the official MAE, timm and most released files share.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mimia.models.sizes import divisors

LAYER_NORM_EPS = 1e-6
_FIRST_SCALE = 0.1
_ROUNDING = 0.01  # of positions that are stored in half precision
_LOOKED_AT = 64  # positions, before all


class PatchEmbed(nn.Module):
    """A linear map of each patch to a token: (B, C, H, W) -> (B, L, D)."""

    def __init__(self, patch_size: int, channels: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, width, kernel_size=patch_size, stride=patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        patches: Tensor = self.proj(pixels)
        return patches.flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Multi-head self-attention: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        mixed = _attend(query, key, value)
        out: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, length, width))
        return out


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Mix values, (B, heads, N, D/heads), by attention."""
    if query.requires_grad and query.device.type == "cpu":
        # On a CPU the backward pass of torch's kernel takes ten times as long in bf16 as in float32, for short rows.
        with torch.autocast("cpu", enabled=False):
            return F.scaled_dot_product_attention(query.float(), key.float(), value.float()).to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value)


class Mlp(nn.Module):
    """Two linear maps with a GELU between them: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LayerScale(nn.Module):
    """A factor for each channel of a residual (Touvron et al., arXiv 2103.17239): (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), _FIRST_SCALE))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """A pre-norm transformer block: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int, norm_eps: float = LAYER_NORM_EPS, *, layer_scale: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, 4 * width)
        self.ls2 = LayerScale(width) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


def sincos_positions(width: int, grid: tuple[int, int]) -> Tensor:
    """Fixed sine-cosine positions of a class token (zeros) and a grid, (1, 1 + rows * columns, width).

    The first half of the channels encodes the column, the second the row, as in the official MAE.
    """
    rows, columns = grid
    row = _waves(width, rows)[:, None].expand(rows, columns, -1)
    column = _waves(width, columns).expand(rows, columns, -1)
    positions = torch.cat([column, row], dim=2).view(rows * columns, -1)
    return torch.cat([torch.zeros(1, positions.shape[1]), positions.float()]).unsqueeze(0)


def find_grid(positions: Tensor) -> tuple[int, int] | None:
    """Return the rows and columns of fixed sine-cosine positions of patches, (L, width); None of any others.

    Either half of the channels may encode the column.

    >>> find_grid(sincos_positions(16, (4, 16))[0, 1:]), find_grid(torch.ones(64, 16))
    ((4, 16), None)
    """
    count, width = positions.shape
    if width % 4:
        return None
    halves = positions.float().chunk(2, dim=1)
    few, every = torch.arange(0, count, max(1, count // _LOOKED_AT)), torch.arange(count)
    for rows in divisors(count):
        grid = rows, count // rows
        for column, row in (halves, halves[::-1]):
            if _encode(column, row, grid, few) and _encode(column, row, grid, every):
                return grid
    return None


def _encode(column: Tensor, row: Tensor, grid: tuple[int, int], places: Tensor) -> bool:
    """Return whether halves of positions, (L, width / 2), encode column and row of some places of a grid."""
    rows, columns = grid
    width = 2 * row.shape[1]
    of_rows, of_columns = _waves(width, rows).float(), _waves(width, columns).float()
    return torch.allclose(row[places], of_rows[places // columns], atol=_ROUNDING) and torch.allclose(
        column[places], of_columns[places % columns], atol=_ROUNDING
    )


def _waves(width: int, places: int) -> Tensor:
    """Return sines, then cosines, of the places along one axis: (places, width / 2), double."""
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.outer(torch.arange(places, dtype=torch.float64), frequency)
    return torch.cat([angles.sin(), angles.cos()], dim=1)
