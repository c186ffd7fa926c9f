"""What an image's file says about how it was prepared, which its pixels no longer show."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile, get_sampling

from mimia.data.bands import BandImage
from mimia.data.decoding import FORMATS, ImageInput, open_image
from mimia.runtime.arrays import Floats


def _format(image: Image.Image | BandImage) -> int:
    return FORMATS.index(image.format) + 1 if image.format in FORMATS else 0


def _quantisation(component: int, image: Image.Image) -> float:
    if not isinstance(image, JpegImageFile) or len(image.layer) <= component:
        return 0
    table = image.quantization[image.layer[component][3]]
    return sum(table) / len(table)


def _subsampling(image: Image.Image) -> int:
    return get_sampling(image) + 1  # Pillow's codes begin at −1, for none


def _exif_tags(image: Image.Image) -> int:
    exif = Image.Image.getexif(image)  # that of a PNG would decode the pixels, to look behind them too
    return len(exif) + sum(len(exif.get_ifd(part)) for part in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo))


_READ: dict[str, Callable[[Image.Image], float]] = {
    "width": lambda image: image.width,
    "height": lambda image: image.height,
    "format": _format,
    "bands": lambda image: len(image.getbands()),
    "palette": lambda image: image.mode in ("P", "PA"),
    "transparency": lambda image: image.has_transparency_data,
    "progressive": lambda image: "progressive" in image.info or "interlace" in image.info,
    "luminance quantisation": lambda image: _quantisation(0, image),
    "chrominance quantisation": lambda image: _quantisation(1, image),
    "subsampling": _subsampling,
    "EXIF tags": _exif_tags,
    "ICC bytes": lambda image: len(image.info.get("icc_profile") or b""),
    "entries": lambda image: len(image.info),
}

FACTS = ("bytes", *_READ)
"""Names of the facts, in the order of `file_facts`."""

_WITHOUT_FILE = frozenset({"width", "height", "bands", "palette", "transparency"})


def file_facts(image: ImageInput) -> Floats:
    """Return what the header of an image file says; the pixels are not decoded.

    Args:
        image: Content of an image file, its path, or an image of Pillow's, of which only size and mode are taken,
            because what else it knows depends on how it came into memory.

    Returns:
        float64, (facts,), as `FACTS` names them: size in bytes; width and height in pixels; codes of the format
        and of the chroma subsampling (0: unknown, none); means of the quantisation tables of a JPEG (0: no such
        table); number of EXIF tags, or of all of a TIFF's; bytes of the ICC profile; number of all entries of
        Pillow's `Image.info`; and 0 or 1 for what is there or not. A fact that is not known is 0.

    Raises:
        DecodeError: It is no image, or one of a decompression bomb's size.
    """
    with open_image(image) as opened:
        return facts_of(opened, image)


def facts_of(header: Image.Image | BandImage, image: ImageInput) -> Floats:
    """Return what `file_facts` does, of an image whose header is read."""
    facts = _facts_of_bands(header) if isinstance(header, BandImage) else _facts_of_pillow(header, image)
    size = image.stat().st_size if isinstance(image, Path) else len(image) if isinstance(image, bytes) else 0
    return np.array([size, *(facts.get(name, 0) for name in _READ)], dtype=np.float64)


def _facts_of_pillow(header: Image.Image, image: ImageInput) -> dict[str, float]:
    names = _READ if isinstance(image, bytes | Path) else _WITHOUT_FILE
    return {name: _read_or_zero(_READ[name], header) for name in names}


def _facts_of_bands(header: BandImage) -> dict[str, float]:
    width, height = header.size
    return {
        "width": width,
        "height": height,
        "format": _format(header),
        "bands": header.bands,
        "EXIF tags": header.tags,
        "ICC bytes": header.icc_bytes,
    }


def _read_or_zero(read: Callable[[Image.Image], float], image: Image.Image) -> float:
    try:
        return float(read(image))
    # Pillow's readers meet broken metadata with nearly every type of exception.
    except Exception:
        return 0
