import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mimia.data.bands import DecodeError
from mimia.data.decoding import decode, refuse_bombs, shorter_side
from mimia.runtime.arrays import Pixels

RGB = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def planes(image: Image.Image, mode: str) -> Pixels:
    return np.asarray(image.convert(mode)).reshape(*image.size[::-1], -1).transpose(2, 0, 1)


def png(width: int, height: int, depth: int, rows: bytes) -> bytes:
    """Write an RGB PNG by hand."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*entry) for entry in chunks)


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "PNG", {}),
        ("RGBA", "PNG", {}),
        ("L", "PNG", {}),
        ("LA", "PNG", {}),
        ("1", "PNG", {}),
        ("P", "PNG", {}),
        ("P", "PNG", {"transparency": bytes(range(0, 256, 4))}),
        ("RGB", "JPEG", {}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "WEBP", {}),
        ("RGBA", "WEBP", {"lossless": True}),
        ("RGB", "BMP", {}),
        ("RGB", "GIF", {}),
        ("RGB", "TIFF", {}),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_those_of_pillows_conversion(mode: str, kind: str, options: dict[str, Any], channels: int) -> None:
    data = encoded(Image.fromarray(RGB).convert(mode), kind, **options)
    with refuse_bombs():
        expected = planes(Image.open(io.BytesIO(data)), "L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(decode(data, 8, channels), expected)


def test_path_gives_the_pixels_that_were_written(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(encoded(Image.fromarray(RGB), "PNG"))
    np.testing.assert_array_equal(decode(tmp_path / "image", 8, 3), RGB.transpose(2, 0, 1))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bit_grey_keeps_its_upper_bits(channels: int) -> None:
    grey = np.array([[0, 255, 256], [511, 32768, 65535], [1, 1000, 65000]], dtype=np.uint16)
    found = decode(encoded(Image.fromarray(grey), "PNG"), 3, channels)
    np.testing.assert_array_equal(found, np.broadcast_to(grey // 256, (channels, 3, 3)))


def test_sixteen_bit_rgb_keeps_its_upper_bits() -> None:
    deep = np.random.default_rng(1).integers(0, 2**16, (4, 4, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)  # each with the filter "none"
    np.testing.assert_array_equal(decode(png(4, 4, 16, rows), 4, 3), (deep // 256).transpose(2, 0, 1))


def test_floating_point_pixels_are_read_from_zero_to_one() -> None:
    values = RGB[..., 0].astype(np.float32)
    with pytest.raises(DecodeError, match=r"floating-point values from .*, not from 0 to 1"):
        decode(encoded(Image.fromarray(values), "TIFF"), 8, 1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(values / 255), "TIFF"), 8, 1)[0], RGB[..., 0])
    with pytest.raises(DecodeError, match="floating-point numbers"):
        decode(Image.fromarray(values), 8, 1)


@pytest.mark.parametrize(("height", "width"), [(8, 21), (21, 8)])
def test_image_of_the_right_shorter_side_is_cropped_and_not_resampled(height: int, width: int) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (height, width, 3), dtype=np.uint8)
    top, left = (height - 8) // 2, (width - 8) // 2
    expected = pixels[top : top + 8, left : left + 8].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG"), 8, 3), expected)


@pytest.mark.parametrize(("size", "resized"), [((20, 33), (8, 13)), ((33, 20), (13, 8)), ((6, 9), (8, 12))])
def test_shorter_side_is_scaled_bicubically_before_the_crop(size: tuple[int, int], resized: tuple[int, int]) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (*size, 3), dtype=np.uint8)
    scaled = np.asarray(Image.fromarray(pixels).resize(resized[::-1], Image.Resampling.BICUBIC))
    top, left = (resized[0] - 8) // 2, (resized[1] - 8) // 2
    expected = scaled[top : top + 8, left : left + 8].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels), "PNG"), 8, 3), expected)


def test_orientation_of_a_camera_is_not_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    image = Image.fromarray(RGB)
    np.testing.assert_array_equal(decode(encoded(image, "JPEG", exif=exif), 8, 3), decode(encoded(image, "JPEG"), 8, 3))


def test_image_of_less_than_half_the_size_is_too_small() -> None:
    assert decode(encoded(Image.new("RGB", (4, 5)), "PNG"), 8, 3).shape == (3, 8, 8)
    with pytest.raises(DecodeError, match="too small: 9×3 pixels for a size of 8"):
        decode(encoded(Image.new("RGB", (9, 3)), "PNG"), 8, 3)


def test_shorter_side_needs_only_the_header() -> None:
    data = encoded(Image.effect_noise((30, 20), 50), "JPEG")
    assert shorter_side(data[: len(data) - 100]) == 20
    with pytest.raises(DecodeError, match="not an image"):
        shorter_side(b"text")


@pytest.mark.parametrize("side", [10_000, 30_000], ids=["where Pillow warns", "where Pillow raises"])
def test_decompression_bomb_is_refused_in_every_thread(side: int) -> None:
    bomb = png(side, side, 8, b"")
    with refuse_bombs(), ThreadPoolExecutor(1) as pool:
        for task in (pool.submit(decode, bomb, 8, 3), pool.submit(shorter_side, bomb)):
            assert str(task.exception()) == "of a decompression bomb's size"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_damaged_file_gives_pixels_or_a_decode_error(kind: str) -> None:
    content = encoded(Image.fromarray(RGB), kind)
    with refuse_bombs():
        for place, byte in enumerate(content):
            for damaged in (content[:place], content[:place] + bytes([byte ^ 255]) + content[place + 1 :]):
                with suppress(DecodeError):
                    assert decode(damaged, 8, 3).shape == (3, 8, 8)
