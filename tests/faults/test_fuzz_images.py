"""Fuzzes the readers of images: files of pictures, and parquet files of them."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image
from tests.faults.fuzzing import check, fuzz, kept, mutated, replayed

from mimia.data.loading import load_images

WORDS = [
    *(
        b"\xff" * 4,
        b"\0" * 4,
        b"\x7f\xff\xff\xff",
        b"IHDR",
        b"IDAT",
        b"IEND",
        b"\xff\xd8\xff",
        b"\xff\xc0",
        b"\xff\xda",
    ),
    *(b"PAR1", b"GIF89a", b"\x00\x3b", b"RIFF", b"II*\0", b"BM", b"\x80\x80\x80\x80\x80\x01", b"image", b"bytes"),
]
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP")


def encoded(kind: str, number: int = 0) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return buffer.getvalue()


def bands(**options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 65_536, (12, 12, 5), dtype=np.uint16)
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, photometric="minisblack", planarconfig="contig", **options)
    return buffer.getvalue()


def array(*shape: int) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    return buffer.getvalue()


def table() -> bytes:
    images = [{"bytes": encoded("PNG", number), "path": f"{number}.png"} for number in range(4)]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"image": images, "label": list(range(4))}), buffer)
    return buffer.getvalue()


def reader_of(path: Path) -> Callable[[bytes], object]:
    """Read a file, beside a good one where it is a picture."""

    def read(content: bytes) -> object:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        if path.suffix == ".parquet":
            return load_images(str(path), image_size=8, allow_skipped=True)
        (path.parent / "good.png").write_bytes(encoded("PNG"))
        return load_images(str(path.parent), image_size=8, allow_skipped=True)

    return read


@pytest.mark.filterwarnings("ignore")  # on images that are left out
@replayed("image")
def test_kept_pictures(tmp_path: Path, path: Path) -> None:
    check(reader_of(tmp_path / "p" / f"picture{path.suffix}"), path.read_bytes())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_pictures(tmp_path: Path) -> None:
    seeds = [*map(encoded, FORMATS), *(path.read_bytes() for path in kept("image") if path.suffix != ".parquet")]
    seeds += [
        bands(),
        bands(compression="deflate", predictor=True, rowsperstrip=4),
        bands(compression="lzw", tile=(16, 16)),
    ]
    fuzz("image", reader_of(tmp_path / "p" / "picture.png"), mutated(seeds, WORDS), kinds=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_arrays(tmp_path: Path) -> None:
    seeds = [array(5, 12, 12), array(12, 12, 3), array(4, 12, 12, 5), array(12, 12)]
    words = [b"'fortran_order': True", b"(-1, ", b"|O", b"<f4", b"<U9", b"\x93NUMPY\x03", b"9" * 12, b"(" * 300]
    fuzz("image", reader_of(tmp_path / "p" / "array.npy"), mutated(seeds, words), kinds=3)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_fuzz_parquet(tmp_path: Path) -> None:
    seeds = [table(), table(), *(path.read_bytes() for path in kept("image") if path.suffix == ".parquet")]
    fuzz("image", reader_of(tmp_path / "p" / "images.parquet"), mutated(seeds, WORDS), kinds=3)
