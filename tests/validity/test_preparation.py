import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image, ImageFilter
from pyarrow import parquet

from mimia.data.decoding import decode
from mimia.data.file_metadata import file_facts
from mimia.validity.blind_baseline import BlindGuess
from mimia.validity.preparation import Preparation, describe_preparation

COUNT = 300


@pytest.fixture
def pictures(data_file: Callable[[str], object]) -> list[Image.Image]:
    table = parquet.read_table(data_file("cifar10.parquet"), columns=["image"])
    rows = np.random.default_rng(0).permutation(len(table))[: 2 * COUNT]  # the file is sorted by class
    cells = table["image"].take(rows).to_pylist()
    return [Image.open(io.BytesIO(cell["bytes"])).convert("RGB") for cell in cells]


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def describe(pictures: list[Image.Image], prepare: Callable[[Image.Image], bytes]) -> Preparation:
    """Prepare the first half of the pictures otherwise than the second, and describe what differs."""
    contents = [prepare(image) if place < COUNT else encoded(image) for place, image in enumerate(pictures)]
    pixels = np.stack([decode(content, 32, 3) for content in contents])
    facts = np.stack([file_facts(content) for content in contents])
    first = np.arange(2 * COUNT) < COUNT
    names = np.array([f"{place}.png" for place in range(2 * COUNT)])
    odds = np.arange(2 * COUNT, 0, -1.0)
    return describe_preparation(pixels, facts, names, first, [BlindGuess("pixels", odds, np.zeros(2 * COUNT, np.intp))])


@pytest.mark.parametrize(
    ("prepare", "quantity", "cause"),
    [
        (lambda image: encoded(image.point(lambda value: min(255, value + 40))), "brightness", "brightness"),
        (lambda image: encoded(image.filter(ImageFilter.GaussianBlur(0.7))), "finest detail", "resampling filter"),
        (lambda image: encoded(image.resize((16, 16)).resize((32, 32), 0)), "finest detail", "resampling filter"),
        (lambda image: encoded(Image.open(io.BytesIO(encoded(image, "JPEG", quality=30)))), "block borders", "JPEG"),
        (lambda image: encoded(image.quantize(16).convert("RGB")), "number of different values", "palette"),
        (lambda image: encoded(image.crop((1, 1, 31, 31)).resize((32, 32))), "finest detail", "resampling filter"),
        (lambda image: encoded(framed(image)), "difference between the border", "frame"),
        (lambda image: encoded(image.convert("L").convert("RGB")), "saturation", "colour space"),
        (lambda image: encoded(image, "BMP"), "format of the file", "another file format"),
    ],
    ids=["brighter", "blurred", "upscaled", "jpeg", "palette", "zoomed", "frame", "grey", "format"],
)
def test_what_differs_is_named(
    pictures: list[Image.Image], prepare: Callable[[Image.Image], bytes], quantity: str, cause: str
) -> None:
    found = describe(pictures, prepare)
    named = [(each.quantity, each.cause) for each in found.differences]
    assert any(quantity in name and cause in why for name, why in named), named
    assert found.images == ("0.png", "1.png", "2.png")


def framed(image: Image.Image) -> Image.Image:
    frame = Image.new("RGB", image.size)
    frame.paste(image.crop((1, 1, 31, 31)), (1, 1))
    return frame


def test_sides_of_one_preparation_differ_in_nothing(pictures: list[Image.Image]) -> None:
    assert describe(pictures, encoded).differences == ()
