"""Images of any number of bands: files of GDAL and NumPy, and the same images in memory."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image
from tests.data.gdal.write import FILES, HEIGHT, WIDTH, values

from mimia.data.array_bands import band_axis
from mimia.data.bands import DecodeError
from mimia.data.decoding import decode
from mimia.data.file_metadata import FACTS, file_facts
from mimia.data.loading import ReadOptions, load_images, load_sides
from mimia.data.sources import open_source
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

GDAL = Path(__file__).with_name("gdal")
WITHOUT_DATA = ("no-data", "sparse", "masked")


def eight_bits(numbers: NDArray[Any], bits: int = 16) -> Pixels:
    """Return what is documented: the upper eight bits of integers, and the nearest of 256 levels of fractions."""
    if numbers.dtype.kind == "f":
        return np.floor(numbers.astype(np.float64) * 255 + 0.5).astype(np.uint8)
    return numbers if numbers.dtype == np.uint8 else (numbers // 2 ** (bits - 8)).astype(np.uint8)


@pytest.mark.parametrize("name", [name for name in FILES if name not in WITHOUT_DATA])
def test_files_of_gdal_have_the_values_that_were_written(name: str) -> None:
    bands, _, options = FILES[name]
    expected = eight_bits(values(name), options.get("nbits", 16))
    np.testing.assert_array_equal(decode(GDAL / f"{name}.tif", (HEIGHT, WIDTH), bands), expected)
    np.testing.assert_array_equal(decode((GDAL / f"{name}.tif").read_bytes(), (HEIGHT, WIDTH), bands), expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no-data", r"pixels without data \(all bands are 0\)"),
        ("sparse", "tiles without data"),
        ("masked", r"pixels without data \(those of its mask\)"),
    ],
)
def test_pixels_without_data_are_refused(name: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        decode(GDAL / f"{name}.tif", (HEIGHT, WIDTH), 5)


def test_dark_bands_of_some_pixels_are_data(tmp_path: Path) -> None:
    pixels = values("no-data")
    pixels[1:, 3, 4] = 0
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="minisblack", extratags=[(42113, "s", 0, "0", True)])
    with pytest.raises(DecodeError, match="a TIFF of 5 pages"):
        decode(tmp_path / "a.tif", (HEIGHT, WIDTH), 5)  # tifffile writes pages, where nothing else is asked for
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", pixels, extratags=[(42113, "s", 0, "0", True)], **options)
    np.testing.assert_array_equal(decode(tmp_path / "a.tif", (HEIGHT, WIDTH), 5), pixels)


@pytest.mark.parametrize("kind", [">u2", "<i4", "u2", "f2", "f8", "u1"])
@pytest.mark.parametrize("bands", [2, 4, 7, 256])
def test_tiff_and_arrays_of_any_order_and_type_give_the_same(tmp_path: Path, bands: int, kind: str) -> None:
    levels = {"u1": 256, "f2": 1, "f8": 1}.get(kind, 65_536)
    numbers = (np.random.default_rng(bands).random((bands, 20, 300)) * levels).astype(kind)
    expected = eight_bits(numbers)
    forms = {"contig": numbers.transpose(1, 2, 0), "separate": numbers}
    for planes, array in forms.items():
        file = tmp_path / f"{planes}.tif"
        tifffile.imwrite(file, array, photometric="minisblack", planarconfig=planes, byteorder=">")
        np.testing.assert_array_equal(decode(file, (20, 300), bands), expected)
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(decode(tmp_path / "a.npy", (20, 300), bands), expected)
        if kind == "u1":
            np.testing.assert_array_equal(decode(array, (20, 300), bands), expected)


@pytest.mark.parametrize("bands", [1, 3, 5])
def test_each_band_is_resized_and_cropped_as_a_grey_image(bands: int) -> None:
    pixels = np.random.default_rng(3).integers(0, 256, (bands, 30, 44), dtype=np.uint8)
    grey = [Image.fromarray(band).resize((22, 15), Image.Resampling.BICUBIC).crop((1, 0, 21, 15)) for band in pixels]
    np.testing.assert_array_equal(decode(pixels, (15, 20), bands), np.stack(list(map(np.asarray, grey))))


def test_deep_bands_follow_the_bits_that_are_given(tmp_path: Path) -> None:
    numbers = np.random.default_rng(4).integers(0, 4096, (6, 8, 8), dtype=np.uint16)
    np.save(tmp_path / "a.npy", numbers)
    np.testing.assert_array_equal(decode(tmp_path / "a.npy", 8, 6, bit_depth=12), numbers // 16)
    with pytest.raises(MimiaError, match=r"images of 16 or 32 bits whose values go up to 4,0\d\d.*data.bit_depth=12"):
        load_images(str(tmp_path))
    np.testing.assert_array_equal(load_images(str(tmp_path), bit_depth=12).pixels[0], numbers // 16)
    with pytest.raises(DecodeError, match=r"has values from .*, which are not of 10 bits"):
        decode(tmp_path / "a.npy", 8, 6, bit_depth=10)


@pytest.mark.parametrize(
    ("shape", "channels", "axis"),
    [
        ((13, 64, 64), None, 0),
        ((64, 64, 13), None, 2),
        ((200, 64, 64), 200, 0),
        ((64, 48, 200), 200, 2),
        ((64, 64, 64), 64, None),
        ((200, 64, 64), None, None),
        ((8, 8, 10), None, None),
        ((4, 64, 4), 4, None),
        ((10, 32, 12), 12, 2),
        ((10, 32, 12), None, 0),
    ],
)
def test_axis_of_the_bands_is_decided_by_a_rule_or_not_at_all(
    shape: tuple[int, ...], channels: int | None, axis: int | None
) -> None:
    if axis is not None:
        assert band_axis(shape, channels) == axis
        return
    with pytest.raises(DecodeError, match=r"bands may be the first or last axis of .*: set data.channels"):
        band_axis(shape, channels)


def test_how_arrays_are_read_is_said(tmp_path: Path) -> None:
    images = np.random.default_rng(5).integers(0, 256, (4, 6, 16, 20), dtype=np.uint8)
    for number, image in enumerate(images):
        np.save(tmp_path / f"{number}.npy", image.transpose(1, 2, 0))
    loaded = load_sides({"a": str(tmp_path)}, Store(tmp_path / "store"), ReadOptions((16, 20)))
    np.testing.assert_array_equal(loaded.images.pixels, images)
    assert str(loaded.accounts[0]).endswith("4 found, 4 used; arrays read as (height, width, bands) (4 images)")


@pytest.mark.parametrize("last", [False, True])
def test_stack_has_the_images_of_single_files(tmp_path: Path, last: bool) -> None:
    images = np.random.default_rng(6).integers(0, 256, (5, 6, 16, 16), dtype=np.uint8)
    array = images.transpose(0, 2, 3, 1) if last else images
    (tmp_path / "stack").mkdir()
    np.save(tmp_path / "stack" / "all.npy", array)
    np.save(tmp_path / "one.npy", array[0])
    in_memory, single = load_images(array), load_images(str(tmp_path / "stack" / "all.npy"))
    folder = load_images(str(tmp_path / "stack"))
    for found in (in_memory, single, folder):
        np.testing.assert_array_equal(found.pixels, images)
    assert single.names.tolist() == folder.names.tolist() == [f"all.npy/{row}" for row in range(5)]
    with pytest.raises(MimiaError, match=r"one\.npy is no stack of images, an array of four axes"):
        open_source(str(tmp_path / "one.npy"))


def test_number_of_bands_is_that_of_most_images(tmp_path: Path) -> None:
    pixels = np.random.default_rng(7).integers(0, 256, (13, 16, 16), dtype=np.uint8)
    for number in range(3):
        np.save(tmp_path / f"{number}.npy", pixels)
    np.save(tmp_path / "other.npy", pixels[:4])
    Image.fromarray(pixels[0]).save(tmp_path / "preview.png")
    with pytest.raises(MimiaError, match=r"2 of 5 are left out \(other\.npy: bands: 4, where 13 are wanted; preview"):
        load_images(str(tmp_path))
    with pytest.warns(UserWarning, match=r"5 found, 3 used; .*preview\.png: bands: 1, where 13 are wanted"):
        assert load_images(str(tmp_path), allow_skipped=True).pixels.shape == (3, 13, 16, 16)
    np.save(tmp_path / "0.npy", pixels[:4])
    with pytest.raises(MimiaError, match=r"3 \(1 image\), 4 \(2 images\), 13 \(2 images\): pass --set data\.channels"):
        load_images(str(tmp_path))


def test_grey_and_rgb_are_converted_to_each_other_and_to_nothing_else(tmp_path: Path) -> None:
    pixels = np.random.default_rng(8).integers(0, 256, (3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    grey = np.asarray(Image.fromarray(pixels.transpose(1, 2, 0)).convert("L"))
    np.testing.assert_array_equal(decode(tmp_path / "a.npy", 16, 1)[0], grey)
    np.save(tmp_path / "b.npy", grey)
    np.testing.assert_array_equal(decode(tmp_path / "b.npy", 16, 3), np.stack([grey] * 3))
    with pytest.raises(DecodeError, match="bands: 3, where 4 are wanted"):
        decode(tmp_path / "a.npy", 16, 4)


def test_fourth_band_that_gdal_calls_alpha_is_taken_where_four_are_wanted(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.tif").write_bytes((GDAL / "alpha.tif").read_bytes())
    accounts = {}
    for channels, bands in ((None, 3), (4, 4)):
        options = ReadOptions((HEIGHT, WIDTH), channels)
        loaded = load_sides({"a": str(folder)}, Store(tmp_path / "store"), options)
        np.testing.assert_array_equal(loaded.images.pixels[0], values("alpha")[:bands])
        accounts[bands] = str(loaded.accounts[0])
    assert "the band that TIFFs call alpha left out: data.channels takes it" in accounts[3]
    assert "the band that TIFFs call alpha read as one of the bands" in accounts[4]


def test_alpha_of_other_formats_is_a_band_where_four_are_wanted() -> None:
    pixels = np.random.default_rng(9).integers(0, 256, (16, 16, 4), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    np.testing.assert_array_equal(decode(buffer.getvalue(), 16, 4), pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(load_images(pixels[None], channels=4).pixels[0], pixels.transpose(2, 0, 1))
    small = decode(buffer.getvalue(), 8, 4)  # no band scales another
    np.testing.assert_array_equal(small[:3], decode(pixels[..., :3].transpose(2, 0, 1), 8, 3))


def test_facts_are_those_of_the_file() -> None:
    path = GDAL / "pixel-deflate.tif"
    facts = dict(zip(FACTS, file_facts(path).tolist(), strict=True))
    assert (facts["width"], facts["height"], facts["bands"]) == (WIDTH, HEIGHT, 13)
    assert facts["bytes"] == path.stat().st_size
    with tifffile.TiffFile(path) as tiff:
        assert facts["EXIF tags"] == len(tiff.pages.first.tags)
    memory = dict(zip(FACTS, file_facts(np.zeros((13, 20, 30), np.uint8)).tolist(), strict=True))
    assert {name: value for name, value in memory.items() if value} == {"width": 30, "height": 20, "bands": 13}
