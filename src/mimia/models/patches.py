"""Images as flat patches, and patches as images."""

from torch import Tensor

from mimia.runtime.errors import MimiaError

PATCH_VARIANCE_EPS = 1e-6


def patch_statistics(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread of each patch, (B, L, 1), with the unbiased variance of the official MAE."""
    variance = patches.var(dim=-1, keepdim=True)
    return patches.mean(dim=-1, keepdim=True), (variance + PATCH_VARIANCE_EPS).sqrt()


def patchify(pixels: Tensor, patch_size: int) -> Tensor:
    """Cut images into flat patches: (B, C, H, W) -> (B, L, p*p*C), values in the order (p, q, c)."""
    batch, channels, height, width = pixels.shape
    rows, columns = height // patch_size, width // patch_size
    blocks = pixels.view(batch, channels, rows, patch_size, columns, patch_size)
    return blocks.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, -1)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Undo `patchify` for a grid of rows and columns: (B, L, p*p*C) -> (B, C, H, W)."""
    rows, columns = grid
    blocks = patches.view(len(patches), rows, columns, patch_size, patch_size, -1)
    return blocks.permute(0, 5, 1, 3, 2, 4).reshape(len(patches), -1, rows * patch_size, columns * patch_size)


def equal_visible(masks: Tensor) -> int:
    """Count the visible patches of a mask, (B, K, L), which must be equal in all of them."""
    counts = (~masks).sum(dim=-1)
    visible = int(counts.flatten()[0])
    if bool((counts != visible).any()):
        raise ValueError("all masks of a batch must leave the same number of patches visible")
    return visible


def refuse_masks(masks: Tensor) -> None:
    """Raise if a patch is masked, for an encoder that has nothing to put in its place.

    Raises:
        MimiaError: One is.
    """
    if bool(masks.any()):
        raise MimiaError(
            "The encoder has no mask token, so that it takes whole images alone: an audit fits one with a decoder."
        )
