import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, TensorDataset

from mimia.data.file_metadata import FACTS
from mimia.data.loading import load_images, load_sides
from mimia.data.sources import SOURCES, open_source
from mimia.data.sources.base import Source, SourceImage
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store


class Pairs(Dataset[tuple[Any, Any]]):
    """A torch data set of images with labels, in the style of torchvision's."""

    def __init__(self, images: list[Any], labels: list[Any]) -> None:
        self.images, self.labels = images, labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        if index >= len(self):
            raise AssertionError("a map-style data set need not end an iteration")
        return self.images[index], self.labels[index]


def pillow(photos: Pixels) -> list[Image.Image]:
    return [Image.fromarray(pixels.transpose(1, 2, 0)) for pixels in photos]


def hugging_face(photos: Pixels) -> datasets.Dataset:
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    return datasets.Dataset.from_dict({"picture": pillow(photos), "kind": [0, 1] * 3}, features)


FORMS: dict[str, Callable[[Pixels], Any]] = {
    "array, channels first": lambda photos: photos,
    "array, channels last": lambda photos: photos.transpose(0, 2, 3, 1),
    "list of arrays": lambda photos: [*photos[:3], *photos[3:].transpose(0, 2, 3, 1)],
    "list of PIL images": pillow,
    "opaque RGBA": lambda photos: [image.convert("RGBA") for image in pillow(photos)],
    "datasets": hugging_face,
    "datasets with a format": lambda photos: hugging_face(photos).with_format("numpy"),
    "tensor": torch.from_numpy,
    "torch, one tensor": lambda photos: TensorDataset(torch.from_numpy(photos)),
    "torch, arrays": lambda photos: Pairs([*photos], [0] * 6),
    "torch, PIL images": lambda photos: Pairs(pillow(photos), [0] * 6),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("image_size", "channels"), [(None, None), (6, None), (None, 1)])
def test_images_in_memory_have_the_ids_of_their_files(
    form: str, image_size: int | None, channels: int | None, photos: Pixels, photo_folder: Path
) -> None:
    expected = load_images(str(photo_folder), image_size=image_size, channels=channels)
    found = load_images(FORMS[form](photos), image_size=image_size, channels=channels)
    assert found.ids.tolist() == expected.ids.tolist()
    np.testing.assert_array_equal(found.pixels, expected.pixels)


@pytest.mark.parametrize(
    "form",
    [
        lambda grey: grey,
        lambda grey: grey[:, None],
        lambda grey: grey[..., None],
        lambda grey: [Image.fromarray(pixels) for pixels in grey],
        lambda grey: TensorDataset(torch.from_numpy(grey)),
    ],
    ids=["(N, H, W)", "(N, 1, H, W)", "(N, H, W, 1)", "PIL images", "tensors"],
)
def test_grey_images_have_one_channel_and_three_beside_colours(
    form: Callable[[Pixels], Any], photos: Pixels, store: Store
) -> None:
    np.testing.assert_array_equal(load_images(form(photos[:, 0])).pixels, photos[:, :1])
    both = load_sides({"members": form(photos[:, 0]), "nonmembers": photos}, store)
    np.testing.assert_array_equal(both.images.pixels[both.rows["members"]], photos[:, :1].repeat(3, axis=1))


def test_only_size_and_mode_are_known_without_a_file(photos: Pixels, tmp_path: Path) -> None:
    pillow(photos)[0].save(tmp_path / "0.jpg")
    with Image.open(tmp_path / "0.jpg") as opened:
        images = load_images([opened, opened.convert("P")])
    known = [{name: value for name, value in zip(FACTS, row, strict=True) if value} for row in images.facts]
    assert known == [{"width": 8, "height": 8, "bands": 3}, {"width": 8, "height": 8, "bands": 1, "palette": 1}]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [([3, 1, 4, 1, 5, 9], "314159"), (torch.tensor([3, 1, 4, 1, 5, 9]), "314159"), (list("abcdef"), "abcdef")],
    ids=["numbers", "tensors", "words"],
)
def test_labels_are_those_of_a_torch_data_set(labels: Any, expected: str, photos: Pixels, store: Store) -> None:
    assert load_sides({"source": Pairs([*photos], labels)}, store).labels.tolist() == list(expected)


def test_labels_are_the_classes_of_a_hugging_face_data_set(photos: Pixels, store: Store) -> None:
    data = hugging_face(photos).select([1, 2])
    assert load_sides({"source": data}, store).labels.tolist() == ["1", "0"]
    assert load_sides({"source": data.remove_columns("kind")}, store).labels.tolist() == ["", ""]


def test_fingerprint_is_that_of_content_labels_and_order(photos: Pixels) -> None:
    def fingerprint(value: Any) -> str:
        return open_source(value).fingerprint

    assert fingerprint(photos) == fingerprint(photos.copy()) == fingerprint(pillow(photos))
    changed = photos.copy()
    changed[5, 0, 0, 0] ^= 1
    palette = Image.fromarray(photos[0, 0]).convert("P")
    repainted = palette.copy()
    repainted.putpalette([7] * 768)
    different = [photos, changed, photos[::-1], photos.transpose(0, 1, 3, 2), [palette], [repainted]]
    different += [Pairs([*photos], labels) for labels in ([0] * 6, [1] * 6)]
    different += [hugging_face(photos), hugging_face(changed)]
    assert len({fingerprint(value) for value in different}) == len(different)


def test_paths_in_a_data_set_are_read_and_changed_files_noticed(photo_folder: Path, photos: Pixels) -> None:
    paths = [str(path) for path in sorted(photo_folder.rglob("*.png"))]
    data = datasets.Dataset.from_dict({"image": paths}, datasets.Features({"image": datasets.Image()}))
    images, before = load_images(data), open_source(data).fingerprint
    np.testing.assert_array_equal(images.pixels, photos)
    assert images.names.tolist() == paths
    (photo_folder / "f5.png").unlink()
    assert open_source(data).fingerprint != before


def test_array_that_changed_is_decoded_anew(photos: Pixels, store: Store) -> None:
    first = load_sides({"source": photos}, store).images
    photos[0] ^= 255
    assert load_sides({"source": photos}, store).images.ids[0] != first.ids[0]


def test_sides_of_the_same_object_have_the_same_rows(photos: Pixels, store: Store) -> None:
    loaded = load_sides({"members": photos, "nonmembers": photos[:2], "reference": photos}, store)
    assert len(loaded.images) == 8
    assert {side: rows.tolist() for side, rows in loaded.rows.items()} == {
        "members": [*range(6)],
        "nonmembers": [6, 7],
        "reference": [*range(6)],
    }


class Unlike:
    """A value of no known kind."""


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            np.zeros((2, 3, 8, 8)),
            "Image 0 of the array has pixels of type float64, whose range .* pass uint8 .*ToTensor",
        ),
        (TensorDataset(torch.zeros(2, 3, 8, 8)), r"Image 0 of the data set has pixels of type torch\.float32"),
        (np.zeros((8, 8), np.uint8), r"An array of images has the shape \(8, 8\): pass \(images, height, width\)"),
        (np.zeros((2, 8, 8, 0), np.uint8), r"Image 0 of the array has the shape \(8, 8, 0\): pass"),
        (
            np.zeros((2, 8, 8, 8), np.uint8),
            r"may be the first or last axis of 8×8×8: set data\.channels",
        ),
        ([np.zeros((1, 8, 8, 3), np.uint8)], r"Image 0 of the list of images has the shape \(1, 8, 8, 3\): pass"),
        (["a.png", "b.png"], "Image 0 of the data set is a str: pass PIL images"),
        ([], "No image of the list of images can be used: it is empty"),
        (Unlike(), "cannot be read from a value of type Unlike: pass a path, a uint8 array"),
        ({"train": 1}, "cannot be read from a value of type dict"),
        (datasets.DatasetDict(train=datasets.Dataset.from_dict({"a": [1]})), r"several data sets: .*\(train\)"),
        (datasets.Dataset.from_dict({"text": ["a"]}), "the data set has no column of images, but only: text"),
        (Path("nowhere"), "nowhere does not exist: pass a folder"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_holds_no_images_is_refused_in_one_sentence(value: Any, message: str, store: Store) -> None:
    with pytest.raises(MimiaError, match=message):
        load_sides({"source": value}, store)


def test_broken_images_are_left_out_with_a_warning(photo_folder: Path) -> None:
    content = (photo_folder / "f5.png").read_bytes()
    images = [Image.open(io.BytesIO(file)) for file in (content, content[: len(content) // 2], content)]
    with pytest.raises(MimiaError, match=r"1 of 3 are left out \(image 1: broken: .*truncated"):
        load_images(images)
    with pytest.warns(UserWarning, match=r"3 found, 2 used; left out: 1 \(image 1: broken: .*truncated"):
        assert load_images(images, allow_skipped=True).names.tolist() == ["image 0", "image 2"]


def test_read_images_keeps_them_in_a_store_or_in_memory(photos: Pixels, tmp_path: Path) -> None:
    kept = load_images(photos, store=tmp_path / "store")
    assert isinstance(kept.pixels, np.memmap)
    assert isinstance(load_images(photos, store=Store(tmp_path / "store")).pixels, np.memmap)
    assert len([*(tmp_path / "store" / "images").iterdir()]) == 1
    assert not isinstance(load_images(photos).pixels, np.memmap)
    assert repr(kept) == "ImageSet(6 images, 3×8×8)"


class Stripes(Source):
    """A source of another package."""

    fingerprint = "stripes"

    def __init__(self, value: str) -> None:
        self.name = value

    @staticmethod
    def recognise(value: object) -> bool:
        return isinstance(value, str) and value.startswith("stripes:")

    def __len__(self) -> int:
        return int(self.name.removeprefix("stripes:"))

    def __iter__(self) -> Iterator[SourceImage]:
        for width in range(1, len(self) + 1):
            pixels = np.arange(64, dtype=np.uint8).reshape(8, 8) // width % 2 * 255
            yield SourceImage(f"{width} wide", Image.fromarray(pixels), "stripe")


def test_source_of_another_package_comes_before_the_hub(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    monkeypatch.setitem(sys.modules, "stripes", sys.modules[__name__])
    monkeypatch.setattr(
        SOURCES, "_points", SOURCES._points | {"s": EntryPoint("s", "stripes:Stripes", "mimia.sources")}
    )
    loaded = load_sides({"source": "stripes:3"}, store)
    assert loaded.images.names.tolist() == ["1 wide", "2 wide", "3 wide"]
    assert loaded.labels.tolist() == ["stripe"] * 3
    assert loaded.images.pixels.shape == (3, 3, 8, 8)


def test_recognising_imports_no_large_library(tmp_path: Path) -> None:
    (tmp_path / "recognise.py").write_text(
        "import sys; from mimia.data.sources import SOURCES\n"
        "assert [name for name, source in SOURCES.items() if source.recognise([1])] == ['torch_dataset']\n"
        "assert not {'torch', 'datasets', 'pyarrow', 'sklearn'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "recognise.py"], cwd=tmp_path, check=True)
