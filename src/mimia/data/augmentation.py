"""Augmentation of a whole batch on its device, from an explicit generator."""

import torch
from torch import Tensor
from torch.nn import functional as F

from mimia.config.recipes import Augmentation

_CROP_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


def augment(
    images: Tensor, kind: Augmentation, generator: torch.Generator, crop_scale: tuple[float, float] = (0.2, 1.0)
) -> Tensor:
    """Augment a batch as MAE and SimMIM do in pre-training.

    Args:
        images: Raw pixels, uint8, (B, C, H, W); B may be 0.
        kind: ``none``; ``flip``: mirrored with probability ½; ``crop``: a random resized crop (bicubic) and
            the flip.
        generator: On the device of the images.
        crop_scale: Smallest and largest proportion of the image that a crop takes; the default is MAE's.

    Returns:
        Raw pixels, (B, C, H, W): uint8, or float in [0, 1] if cropped.
    """
    if kind == "none" or len(images) == 0:  # torch makes no grid for none
        return images
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    if kind == "flip":
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(-1), images)
    aspect = images.shape[-2] / images.shape[-1]
    left, top, width, height = random_crops(len(images), generator, crop_scale, aspect)
    # Corners are in units of the image; grid_sample's coordinates run from -1 to 1.
    zero = torch.zeros_like(width)
    sign = torch.where(mirrored, -1.0, 1.0)
    across = torch.stack([sign * width, zero, 2 * left + width - 1], dim=1)
    down = torch.stack([zero, height, 2 * top + height - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    pixels = F.grid_sample(images.float() / 255, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return pixels.clamp(0, 1)


def random_crops(
    count: int, generator: torch.Generator, crop_scale: tuple[float, float], aspect: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw the boxes of random resized crops.

    The area is uniform and the aspect ratio log-uniform; of ten tries the first that fits in the image is taken, or
    else the whole image.

    Args:
        count: Number of crops.
        generator: Source of randomness, whose device is used.
        crop_scale: Smallest and largest proportion of the image.
        aspect: Height of the images divided by their width.

    Returns:
        Left, top, width and height, each (count,), in units of the image's sides.
    """
    device = generator.device
    scale, ratio, across, down = torch.rand(4, count, _TRIES, generator=generator, device=device)
    scale = crop_scale[0] + (crop_scale[1] - crop_scale[0]) * scale
    low, high = torch.tensor(_CROP_RATIO, device=device).log()
    ratio = torch.exp(low + (high - low) * ratio)
    ratio = ratio * aspect  # of the units
    width, height = (scale * ratio).sqrt(), (scale / ratio).sqrt()
    fits = (width <= 1) & (height <= 1)
    first = fits.to(torch.uint8).argmax(dim=1, keepdim=True)
    any_fits = fits.any(dim=1)
    width = torch.where(any_fits, width.gather(1, first)[:, 0], 1.0)
    height = torch.where(any_fits, height.gather(1, first)[:, 0], 1.0)
    return (
        across.gather(1, first)[:, 0] * (1 - width),
        down.gather(1, first)[:, 0] * (1 - height),
        width,
        height,
    )
