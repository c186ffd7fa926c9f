"""The parts of a Vision Transformer (Dosovitskiy et al., arXiv 2010.11929), named as in the official MAE.

The layout of the parameters is the one that the official MAE, timm and most released files share.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6


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


class Block(nn.Module):
    """A pre-norm transformer block: (B, N, D) -> (B, N, D)."""

    def __init__(self, width: int, heads: int, norm_eps: float = LAYER_NORM_EPS) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=norm_eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=norm_eps)
        self.mlp = Mlp(width, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


def sincos_positions(width: int, grid: int) -> Tensor:
    """Fixed sine-cosine positions of a class token (zeros) and a square grid, (1, 1 + grid², width).

    The first half of the channels encodes the column, the second the row, as in the official MAE.
    """
    frequency = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    angles = torch.outer(torch.arange(grid, dtype=torch.float64), frequency)
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)  # (grid, width / 2)
    column = axis.expand(grid, grid, -1)
    row = axis[:, None].expand(grid, grid, -1)
    positions = torch.cat([column, row], dim=2).view(grid * grid, width)
    return torch.cat([torch.zeros(1, width), positions.float()]).unsqueeze(0)
