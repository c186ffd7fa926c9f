"""Features of images that need no model."""

import numpy as np

from mimia.runtime.arrays import Floats, Pixels

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CHUNK = 128  # images in memory at once, as numbers of 8 bytes


def pixel_features(pixels: Pixels) -> Floats:
    """Return brightness, contrast, colour, sharpness and the traces of encoders of each image.

    Args:
        pixels: uint8, (N, C, H, W).

    Returns:
        (N, features): of each channel mean, standard deviation and quantiles; of the grey image the energy of
        differences and of the Laplacian, the difference at 8-pixel block borders, the proportion of clipped
        values, the number of different values, and the brightness of centre and border.
    """
    return np.concatenate([_features_of(pixels[i : i + _CHUNK]) for i in range(0, len(pixels), _CHUNK)])


def _features_of(pixels: Pixels) -> Floats:
    count, _, height, width = pixels.shape
    values = pixels.astype(np.float64)
    flat = values.reshape(*values.shape[:2], -1)
    grey = values.mean(axis=1)
    down, across = np.diff(grey, axis=1), np.diff(grey, axis=2)
    laplacian = np.diff(grey, 2, axis=1)[:, :, 1:-1] + np.diff(grey, 2, axis=2)[:, 1:-1]
    borders = across[:, :, 7::8] if width > 8 else across[:, :, :0]
    centre = grey[:, height // 4 : height - height // 4, width // 4 : width - width // 4]
    clipped = ((pixels == 0) | (pixels == 255)).reshape(count, -1).mean(axis=1)
    sorted_values = np.sort(pixels.reshape(count, -1), axis=1)
    different = (np.diff(sorted_values, axis=1) > 0).sum(axis=1)
    return np.column_stack(
        [
            flat.mean(axis=2),
            flat.std(axis=2),
            np.quantile(flat, _QUANTILES, axis=2).transpose(1, 0, 2).reshape(count, -1),
            np.abs(down).mean(axis=(1, 2)),
            np.abs(across).mean(axis=(1, 2)),
            np.abs(laplacian).mean(axis=(1, 2)),
            laplacian.std(axis=(1, 2)),
            np.abs(borders).sum(axis=(1, 2)),
            clipped,
            different,
            centre.mean(axis=(1, 2)),
            grey[:, 0].mean(axis=1),
            grey[:, :, 0].mean(axis=1),
        ]
    )
