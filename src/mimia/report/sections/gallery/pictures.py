"""Pictures of images, masked, reconstructed, and of the error (the paper's Figure 2)."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mimia.config.settings import SignalSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.report.pictures import shown_bands
from mimia.report.sections.gallery import Exhibit
from mimia.runtime.arrays import Bools, Floats, Pixels

_HIDDEN = 0.85  # grey of a masked patch, raw pixels in [0, 1]
_LARGE_ERROR = 0.5  # of the range of pixels: the darkest shade


def make_gallery(
    model: MaskedImageModel, images: ImageSet, groups: Sequence[str], scores: Floats, settings: SignalSettings
) -> tuple[Exhibit, ...]:
    """Reconstruct images under their first mask.

    Args:
        model: On the CPU.
        images: A handful.
        groups: Group of each image.
        scores: Of each image.
        settings: Seed of the masks.
    """
    spec = model.spec
    masks = spec.scoring_masks(images.ids, 1, settings.seed)
    pixels = torch.from_numpy(np.array(images.pixels))
    with torch.inference_mode():
        predicted = model.pictures(pixels, torch.from_numpy(masks))[:, 0]
        distances = model.distances(pixels, torch.from_numpy(masks))[:, 0]
    original = pixels.float() / 255
    hidden = _on_pixels(masks[:, 0], spec.grid, spec.patch_size)
    masked = torch.where(hidden, _HIDDEN, original)
    reconstructed = torch.where(hidden, predicted.clamp(0, 1), original)
    error = (reconstructed - original).abs().mean(dim=1)
    return tuple(
        Exhibit(
            name=str(images.names[row]),
            id=str(images.ids[row]),
            group=groups[row],
            score=float(scores[row]),
            distance=float(distances[row]),
            original=_png(_colours(original[row])),
            masked=_png(_colours(masked[row])),
            reconstructed=_png(_colours(reconstructed[row])),
            error=_png(_error_map(error[row])),
        )
        for row in range(len(images))
    )


def to_data_uri(pixels: Pixels) -> str:
    """Return an image, uint8, (C, H, W), as the data URI of a PNG file."""
    return _png(_colours(torch.from_numpy(np.array(pixels)).float() / 255))


def _on_pixels(masks: Bools, grid: tuple[int, int], patch_size: int) -> Tensor:
    """Return masks of patches as masks of pixels, (B, L) -> (B, 1, H, W)."""
    cells = torch.from_numpy(masks).view(-1, 1, *grid)
    return cells.repeat_interleave(patch_size, dim=2).repeat_interleave(patch_size, dim=3)


def _colours(image: Tensor) -> Pixels:
    """Return raw pixels in [0, 1], (C, H, W), as uint8, (H, W) or (H, W, 3)."""
    shown = image[list(shown_bands(len(image)))]
    values: Pixels = (shown * 255).round().to(torch.uint8).permute(1, 2, 0).squeeze(-1).numpy()
    return values


def _error_map(error: Tensor) -> Pixels:
    import matplotlib as mpl

    shades = mpl.colormaps["gist_heat_r"](np.clip(error.numpy() / _LARGE_ERROR, 0, 1) * 0.9)
    colours: Pixels = (shades[..., :3] * 255).round().astype(np.uint8)
    return colours


def _png(values: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
