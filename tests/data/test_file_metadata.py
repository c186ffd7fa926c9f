import io
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from mimia.data.bands import DecodeError
from mimia.data.decoding import ImageInput, refuse_bombs
from mimia.data.file_metadata import FACTS, file_facts

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8))
PHOTOGRAPHS = Path(sklearn.__file__).parent / "datasets" / "images"


def encoded(kind: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def facts(content: ImageInput) -> dict[str, float]:
    return dict(zip(FACTS, file_facts(content).tolist(), strict=True))


def camera() -> Image.Exif:
    """Three tags of a camera, two of them in the part for photographs, and two of a place."""
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif.get_ifd(ExifTags.IFD.Exif).update({ExifTags.Base.ISOSpeedRatings: 100, ExifTags.Base.FocalLength: 50.0})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLongitudeRef: "E"})
    return exif


def segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and payload of the parts of a JPEG before its pixels."""
    place = 2
    while content[place + 1] != 0xDA:
        (length,) = struct.unpack(">H", content[place + 2 : place + 4])
        yield content[place + 1], content[place + 4 : place + 2 + length]
        place += 2 + length


def slow_jpeg_facts(content: bytes) -> dict[str, float]:
    """Read a JPEG of tables of 8 bits by the standard, ITU T.81."""
    tables: dict[int, bytes] = {}
    found: dict[str, float] = {"bytes": len(content), "format": 1, "palette": 0, "transparency": 0}
    components: list[bytes] = []
    for marker, payload in segments(content):
        if marker == 0xDB:
            for start in range(0, len(payload), 65):
                tables[payload[start]] = payload[start + 1 : start + 65]
        if marker in (0xC0, 0xC2):
            height, width, bands = struct.unpack(">HHB", payload[1:6])
            found |= {"height": height, "width": width, "bands": bands, "progressive": marker == 0xC2}
            components = [payload[start : start + 3] for start in range(6, len(payload), 3)]
    names = ("luminance quantisation", "chrominance quantisation")
    found |= {name: sum(tables[part[2]]) / 64 for name, part in zip(names, components, strict=False)}
    factors = bytes(part[1] for part in components)
    return found | {"subsampling": [b"\x11\x11\x11", b"\x21\x11\x11", b"\x22\x11\x11"].index(factors) + 1}


@pytest.mark.parametrize("name", ["china.jpg", "flower.jpg"])
@pytest.mark.parametrize(
    "options",
    [None, {"quality": 60}, {"quality": 95, "subsampling": 0}, {"subsampling": 1, "progressive": True}],
    ids=["as it is", "quality 60", "4:4:4", "progressive"],
)
def test_facts_of_a_jpeg_are_those_of_its_markers(name: str, options: dict[str, Any] | None) -> None:
    content = (PHOTOGRAPHS / name).read_bytes()
    if options is not None:
        content = encoded("JPEG", Image.open(PHOTOGRAPHS / name), **options)
    found = facts(content)
    expected = slow_jpeg_facts(content)
    assert {key: found[key] for key in expected} == expected
    assert len(expected) == len(FACTS) - 3  # what is said beside the image


def test_path_says_what_the_content_says() -> None:
    path = PHOTOGRAPHS / "china.jpg"
    np.testing.assert_array_equal(file_facts(path), file_facts(path.read_bytes()))


@pytest.mark.parametrize(
    ("kind", "code"), [("JPEG", 1), ("PNG", 2), ("WEBP", 3), ("GIF", 4), ("BMP", 5), ("TIFF", 6), ("PCX", 15)]
)
def test_format_has_a_code_and_what_only_a_jpeg_has_is_zero_elsewhere(kind: str, code: int) -> None:
    content = encoded(kind)
    found = facts(content)
    assert found["format"] == code
    assert (found["bytes"], found["width"], found["height"]) == (len(content), 40, 24)
    for name in ("luminance quantisation", "chrominance quantisation", "subsampling"):
        assert (found[name] > 0) == (kind == "JPEG"), name


@pytest.mark.parametrize(
    ("content", "bands", "palette", "transparency"),
    [
        (encoded("PNG", NOISE.convert("L")), 1, 0, 0),
        (encoded("PNG", NOISE.convert("RGBA")), 4, 0, 1),
        (encoded("PNG", NOISE.convert("P")), 1, 1, 0),
        (encoded("PNG", NOISE.convert("P"), transparency=3), 1, 1, 1),
        (encoded("GIF", NOISE), 1, 1, 0),
        (encoded("JPEG", NOISE.convert("CMYK")), 4, 0, 0),
    ],
    ids=["grey", "alpha", "palette", "palette with a transparent colour", "GIF", "CMYK"],
)
def test_bands_palette_and_transparency(content: bytes, bands: int, palette: int, transparency: int) -> None:
    found = facts(content)
    assert (found["bands"], found["palette"], found["transparency"]) == (bands, palette, transparency)


def test_grey_jpeg_has_no_chrominance() -> None:
    table = [7] * 32 + [9] * 32
    found = facts(encoded("JPEG", NOISE.convert("L"), qtables=[table]))
    assert found["luminance quantisation"] == 8
    assert found["chrominance quantisation"] == found["subsampling"] == 0
    both = facts(encoded("JPEG", qtables=[table, [20] * 64]))
    assert (both["luminance quantisation"], both["chrominance quantisation"]) == (8, 20)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_metadata_is_counted(kind: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    plain, told = facts(encoded(kind)), facts(encoded(kind, exif=camera(), icc_profile=profile))
    assert plain["EXIF tags"] == plain["ICC bytes"] == 0
    assert told["EXIF tags"] == 5 + 2  # a reference to each of both parts is a tag too
    assert told["ICC bytes"] == len(profile)
    assert told["entries"] > plain["entries"]
    assert told["bytes"] > plain["bytes"]


def test_text_of_an_editor_is_an_entry() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Software", "editor")
    assert facts(encoded("PNG", pnginfo=text))["entries"] == facts(encoded("PNG"))["entries"] + 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_broken_exif_counts_as_none_and_costs_no_other_fact(kind: str) -> None:
    exif = camera().tobytes()
    whole = facts(encoded(kind, exif=exif))
    assert whole["EXIF tags"] == 7
    for header in (b"text", exif[6:8] + b"\xff\xff"):
        with refuse_bombs():
            found = facts(encoded(kind, exif=exif[:6] + header + exif[10:]))
        assert found == whole | {"EXIF tags": 0}


def test_pixels_are_not_read() -> None:
    for kind in ("JPEG", "PNG"):
        content = encoded(kind, exif=camera())
        cut = content[: content.index(b"\xff\xda" if kind == "JPEG" else b"IDAT") + 20]
        assert facts(cut) == facts(content) | {"bytes": len(cut)}


def test_what_is_no_image_is_refused() -> None:
    for content in (b"", b"hello", Path("nowhere.png")):
        with pytest.raises(DecodeError):
            file_facts(content)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_damaged_file_gives_finite_facts_or_a_decode_error(kind: str) -> None:
    content = encoded(kind, Image.effect_noise((8, 8), 50).convert("RGB"), exif=camera())
    with refuse_bombs():
        for place, byte in enumerate(content):
            for damaged in (content[:place], content[:place] + bytes([byte ^ 255]) + content[place + 1 :]):
                with suppress(DecodeError):
                    found = file_facts(damaged)
                    assert found.shape == (len(FACTS),)
                    assert np.isfinite(found).all()
