"""TIFFs of bands that Pillow does not read, or of which it reads the first alone, by tifffile."""

import logging
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from mimia.data.bands import COLOURS, BandImage, DecodeError, Values
from mimia.runtime.arrays import Pixels

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

_BEGINNINGS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_LARGEST_VALUE, _NO_DATA, _ICC = 281, 42113, 34675  # tags
_MINIMUM_IS_WHITE, _RGB, _INKS, _YCBCR = 0, 2, 5, 6  # photometric interpretations
_SEPARATE = 2  # planar configuration
_REDUCED, _MASK = 1, 4  # bits of the type of a page
_ALPHA = (1, 2)  # types of extra samples
_MOST_PAGES = 64
ALPHA_LEFT_OUT = "the band that TIFFs call alpha left out: data.channels takes it, if it counts all bands"
_ALPHA_READ = "the band that TIFFs call alpha read as one of the bands"

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # it logs what is wrong with a file, and errors say it


def is_tiff(file: IO[bytes]) -> bool:
    """Return whether a file begins as a TIFF."""
    file.seek(0)
    beginning = file.read(4)
    file.seek(0)
    return beginning in _BEGINNINGS


def tiff_image(file: IO[bytes], channels: int | None) -> BandImage | None:
    """Return a TIFF as an image of bands, or None if Pillow reads all of it, or has to say what is wrong with it.

    Only the header is read, and the file has to stay open until the values are.

    Args:
        file: Begins as a TIFF.
        channels: Bands that are wanted, if that is known. Bands that are called alpha are left out, unless all bands
            together are as many.

    Raises:
        DecodeError: It has several images, planes of depth, or parts that are not there.
    """
    import tifffile

    try:
        tiff = tifffile.TiffFile(file)
        page = tiff.pages.first
        assert isinstance(page, tifffile.TiffPage)
        if _pillow_reads(page, channels):
            return None
    # What tifffile does not open, it meets with many types of exception.
    except Exception:
        return None
    finally:
        file.seek(0)
    if page.dtype is None:
        raise DecodeError(f"values of {page.bitspersample} bits, of a kind that is not read")
    alpha = _alpha(page)
    whole = channels == page.samplesperpixel
    chosen = [band for band in range(page.samplesperpixel) if whole or band not in alpha]
    profile = page.tags.valueof(_ICC)
    image = BandImage(
        (page.imagewidth, page.imagelength),
        len(chosen),
        lambda: _values(tiff, page)[chosen],
        bits=_declared_bits(page),
        inverted=page.photometric == _MINIMUM_IS_WHITE,
        no_data=_no_data(page),
        remark=(_ALPHA_READ if whole else ALPHA_LEFT_OUT) if alpha else None,
        format="TIFF",
        tags=len(page.tags),
        icc_bytes=len(profile) if isinstance(profile, bytes) else 0,
    )
    _check_parts(page, file)
    return image


def write_tiff(pixels: Pixels, path: Path) -> None:
    """Write an image of two or more bands, uint8, (C, H, W), as a TIFF that decodes to the same pixels."""
    import tifffile

    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="separate", compression="zlib", metadata=None)


def _pillow_reads(page: "TiffPage", channels: int | None) -> bool:
    """Return whether Pillow reads all bands that are wanted: of others it often reads the first alone."""
    samples, separate = page.samplesperpixel, page.planarconfig == _SEPARATE
    if page.dtype is not None and page.dtype.kind == "f":
        return False
    if samples == 1 or page.photometric in (_INKS, _YCBCR):
        return page.bitspersample <= 8 or not separate
    if samples == channels and channels not in COLOURS:
        return False
    opaque = samples - len(_alpha(page))
    if page.photometric == _RGB:
        return opaque == 3 and (page.bitspersample == 8 or not separate)
    return opaque == 1 and not separate


def _alpha(page: "TiffPage") -> set[int]:
    """Return the places of the bands that are called alpha; extra samples are the last ones."""
    first = page.samplesperpixel - len(page.extrasamples)
    return {first + place for place, kind in enumerate(page.extrasamples) if kind in _ALPHA}


def _declared_bits(page: "TiffPage") -> int | None:
    bits = page.bitspersample
    if 8 < bits < 16:
        return bits
    largest = page.tags.valueof(_LARGEST_VALUE)
    return int(np.max(largest)).bit_length() if largest else None


def _no_data(page: "TiffPage") -> float | None:
    try:
        return float(str(page.tags.valueof(_NO_DATA)))
    except ValueError:
        return None


def _check_parts(page: "TiffPage", file: IO[bytes]) -> None:
    """Raise if the strips or tiles of a page are not there, whose values would be made up."""
    if page.imagedepth != 1:
        raise DecodeError(f"a TIFF of {page.imagedepth} planes of depth: save each as a file of its own")
    rows, columns = (page.tilelength, page.tilewidth) if page.is_tiled else (page.rowsperstrip, page.imagewidth)
    if min(page.imagelength, page.imagewidth, rows, columns, page.samplesperpixel) < 1:
        raise DecodeError("broken: a TIFF without pixels")
    parts = -(-page.imagelength // rows) * -(-page.imagewidth // columns)
    parts *= page.samplesperpixel if page.planarconfig == _SEPARATE else 1
    if len(page.dataoffsets) != parts or len(page.databytecounts) != parts:
        raise DecodeError(f"broken: {len(page.dataoffsets):,} strips or tiles, where there should be {parts:,}")
    if not all(page.databytecounts):
        raise DecodeError("tiles without data: fill them or cut them off")
    end = file.seek(0, 2)
    if any(at + count > end for at, count in zip(page.dataoffsets, page.databytecounts, strict=True)):
        raise DecodeError("broken: the file ends before its last strip or tile")


def _values(tiff: "TiffFile", page: "TiffPage") -> Values:
    """Return the values of the only image, (C, H, W); smaller copies of it may stand beside it."""
    if len(tiff.pages) > _MOST_PAGES:
        raise DecodeError(f"a TIFF of {len(tiff.pages):,} pages: save each as a file of its own")
    pages = [each for each in tiff.pages if isinstance(each, type(page)) and not each.subfiletype & _REDUCED]
    masks = [each for each in pages if each.subfiletype & _MASK]
    if len(pages) - len(masks) > 1:
        count = len(pages) - len(masks)
        raise DecodeError(f"a TIFF of {count} pages: save each as a file of its own, or all as bands of one page")
    if not all(mask.asarray(maxworkers=1).all() for mask in masks):
        raise DecodeError("pixels without data (those of its mask): fill them or cut them off")
    values = page.asarray(maxworkers=1)
    if values.ndim == 2:
        return values[None]
    return values if page.planarconfig == _SEPARATE else np.ascontiguousarray(values.transpose(2, 0, 1))
