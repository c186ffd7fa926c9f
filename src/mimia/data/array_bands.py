"""Images in arrays and ``.npy`` files: which axis is that of the bands."""

from pathlib import Path

import numpy as np

from mimia.data.bands import BandImage, DecodeError, Values

SUFFIX = ".npy"
_STACK_AXES = 4


def array_image(values: Values, channels: int | None = None, kind: str = "") -> BandImage:
    """Return an array of one image, (H, W), (H, W, C) or (C, H, W), as an image of bands.

    Args:
        values: Read only when the image is; a memory map will do.
        channels: Bands that are wanted, if that is known.
        kind: Format of the file that it is.

    Raises:
        DecodeError: It has other axes, no values, or bands that may be either axis.
    """
    if values.ndim not in (2, 3) or 0 in values.shape:
        raise DecodeError(f"an array of the shape {values.shape}: an image has height, width and bands")
    if values.ndim == 2:
        return BandImage(values.shape[::-1], 1, lambda: np.asarray(values)[None], format=kind)
    axis = band_axis(values.shape, channels)
    height, width = np.delete(values.shape, axis).tolist()
    return BandImage(
        (width, height),
        values.shape[axis],
        lambda: np.ascontiguousarray(np.moveaxis(values, axis, 0)),
        remark=f"arrays read as {'(bands, height, width)' if axis == 0 else '(height, width, bands)'}",
        format=kind,
    )


def band_axis(shape: tuple[int, ...], channels: int | None = None) -> int:
    """Return which axis of an image is that of its bands, the first or the last.

    It is the one that has as many entries as bands are wanted, or else the one that is shorter than both others.

    Raises:
        DecodeError: It may be either.

    >>> band_axis((13, 64, 64)), band_axis((64, 64, 4)), band_axis((64, 32, 32), channels=64)
    (0, 2, 0)
    """
    fitting = [axis for axis in (0, 2) if shape[axis] == channels]
    if not fitting:
        fitting = [axis for axis in (0, 2) if shape[axis] < min(shape[1], shape[2 - axis])]
    if len(fitting) != 1:
        form = "×".join(map(str, shape))
        raise DecodeError(f"bands may be the first or last axis of {form}: set data.channels, or use TIFF")
    return fitting[0]


def open_npy(path: Path) -> Values:
    """Return the array of a ``.npy`` file as a memory map.

    Raises:
        DecodeError: It is damaged, or no array of plain numbers: nothing is unpickled.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # NumPy meets a damaged header with many types of exception
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise DecodeError(f"no whole .npy file of plain numbers ({reason})") from error


def images_in_stack(path: Path) -> int | None:
    """Return how many images a ``.npy`` file of four axes has, and None for any other."""
    try:
        shape = open_npy(path).shape
    except DecodeError:  # decoding leaves it out and lists why
        return None
    return shape[0] if len(shape) == _STACK_AXES else None
