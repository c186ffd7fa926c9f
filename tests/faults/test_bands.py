"""Damaged and hostile files of bands: left out with the reason, and nothing made up."""

import io
import pickle
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from mimia.data.bands import DecodeError
from mimia.data.decoding import decode, shorter_side
from mimia.data.loading import load_images
from mimia.runtime.errors import MimiaError

Array = np.ndarray[Any, Any]
BANDS = np.random.default_rng(0).integers(0, 256, (5, 16, 16), dtype=np.uint8)


def tiff(array: Array = BANDS, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **{"planarconfig": "separate", **options})
    return buffer.getvalue()


def npy(array: Array) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(text)) + text.encode()


def objects() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.array([[print]], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def test_nan_and_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    floats = BANDS / np.float32(255)
    for value, message in [
        (np.nan, "values that are not finite"),
        (np.inf, "values that are not finite"),
        (1.5, r"floating-point values from \S+ to 1\.5, not from 0 to 1"),
        (-9999, "floating-point values from -9999 to"),
    ]:
        floats[2, 3, 4] = value
        np.save(tmp_path / "a.npy", floats)
        for image in (tmp_path / "a.npy", tiff(floats)):
            with pytest.raises(DecodeError, match=message):
                decode(image, 16, 5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy(BANDS)[:-1], r"no whole \.npy file of plain numbers"),
        (npy(BANDS)[:40], r"no whole \.npy file"),
        (b"", r"no whole \.npy file"),
        (objects(), r"no whole \.npy file of plain numbers \(.*Python objects"),
        (pickle.dumps([1]), r"no whole \.npy file"),
        (b"PK\3\4" + bytes(50), r"no whole \.npy file"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, 1000000, 1000000)}\n"), r"no whole \.npy file"),
        (header("{'descr': '|u1', 'fortran_order': False, 'shape': (4, -8, 8)}\n" + " " * 99), r"no whole \.npy file"),
        (header("(" * 9000 + "\n"), r"no whole \.npy file"),
        (npy(np.zeros(768, np.float32)), r"an array of the shape \(768,\): an image has height, width and bands"),
        (npy(np.zeros((5, 0, 16), np.uint8)), r"no whole \.npy file|of the shape"),
        (npy(np.zeros((5, 16, 16), np.int8)), "values of type int8, of which it is not known what is black"),
        (npy(np.zeros((5, 16, 16), bool)), "values of type bool"),
        (npy(np.zeros((5, 16, 16), complex)), "values of type complex128"),
        (npy(np.zeros((5, 16, 16), "S3")), r"values of type \|S3"),
        (npy(np.full((5, 16, 16), 2**64 - 1, np.uint64)), "which are not of 32 bits"),
        (npy(np.full((5, 16, 16), -1, np.int16)), r"has values from -1 to -1, which are not of 16 bits"),
        (npy(np.zeros((300, 400, 400), np.uint8)), "300 bands, and from 1 to 256 are read|first or last"),
    ],
)
def test_array_that_is_no_image_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(DecodeError, match=message) as refused:
        decode(tmp_path / "a.npy", 16, 5)
    assert len(str(refused.value)) < 250
    with pytest.raises(MimiaError, match=r"can be used: a\.npy"):
        load_images(str(tmp_path))


def tag(content: bytes, number: int, change: Callable[[int], int]) -> bytes:
    """Change the value of a tag of one short or long integer in a little-endian TIFF."""
    start = struct.unpack_from("<I", content, 4)[0]
    for entry in range(struct.unpack_from("<H", content, start)[0]):
        place = start + 2 + 12 * entry
        name, kind, count = struct.unpack_from("<HHI", content, place)
        if name == number and count == 1:
            form = {3: "<H", 4: "<I"}[kind]
            value = struct.pack(form, change(struct.unpack_from(form, content, place + 8)[0]))
            return content[: place + 8] + value + content[place + 8 + len(value) :]
    raise AssertionError(number)


PLAIN = tiff()
PACKED = tiff(BANDS.transpose(1, 2, 0), planarconfig="contig", compression="deflate", rowsperstrip=4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PLAIN[:-1], "broken: the file ends before its last strip"),
        (PACKED[:-1], "broken: the file ends before its last strip"),
        (tag(PLAIN, 256, lambda _: 60_000), "broken|bomb"),
        (tag(PLAIN, 257, lambda _: 0), "broken|not an image"),
        (tag(PLAIN, 257, lambda _: 32), "broken"),
        (tag(PACKED, 257, lambda _: 32), "broken: 4 strips or tiles, where there should be 8"),
        (tag(PACKED, 257, lambda _: 2**31), "bomb|broken"),
        (tag(PACKED, 259, lambda _: 65_001), "broken"),
        (tag(PACKED, 277, lambda _: 6), "bands: 6, where 5 are wanted"),
        (tiff(BANDS.view(np.int8)), "values of type int8"),
        (tiff(np.zeros((5, 16, 16), complex)), "values of type complex128"),
        (tiff(np.zeros((3, 16, 16, 5), np.uint8), planarconfig="contig"), "a TIFF of 3 pages"),
        (PACKED.replace(PACKED[-40:-20], bytes(20)), "broken"),
    ],
)
def test_damaged_tiff_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(DecodeError, match=message) as refused:
        decode(content, 16, 5)
    assert len(str(refused.value)) < 250


def test_tiff_of_a_bombs_size_is_refused_by_its_header() -> None:
    side = int((Image.MAX_IMAGE_PIXELS or 0) ** 0.5)
    content = tag(tag(PLAIN, 256, lambda _: side), 257, lambda _: side)
    with pytest.raises(DecodeError, match="bomb"):
        shorter_side(content, 5)


def test_damaged_bytes_give_pixels_or_a_decode_error() -> None:
    generator = np.random.default_rng(1)
    taken = 0
    for content in (PLAIN, PACKED, tiff(compression="lzw", tile=(16, 16))):
        for _ in range(60):
            damaged = bytearray(content)
            for place in generator.integers(0, len(content), 3):
                damaged[place] = generator.integers(256)
            with suppress(DecodeError):
                taken += decode(bytes(damaged), 16, 5).shape == (5, 16, 16)
    assert taken > 30  # a changed value is no damage
