"""Mean and standard deviation of the channels of images."""

import numpy as np

from mimia.data.imageset import ImageSet

_CHUNK = 4096


def pixel_statistics(images: ImageSet) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation of each channel, raw pixels in [0, 1], from exact counts of the values."""
    channels = images.pixels.shape[1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images.pixels[start : start + _CHUNK]
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    values = np.arange(256) / 255
    proportion = counts / counts.sum(axis=1, keepdims=True)
    mean = proportion @ values
    std = np.sqrt((proportion * (values - mean[:, None]) ** 2).sum(axis=1))
    std = np.where(std > 0, std, 1.0)  # images of one colour
    return tuple(mean.tolist()), tuple(std.tolist())
