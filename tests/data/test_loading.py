import io
import os
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet
from pyarrow import table as make_table

from mimia.data.file_metadata import FACTS, file_facts
from mimia.data.loading import ReadOptions, load_sides
from mimia.data.sources import open_source
from mimia.runtime.arrays import Pixels, content_id
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store


def write_noise(path: Path, width: int, height: int, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def test_images_come_with_their_pixels_ids_and_names(photo_folder: Path, photos: Pixels, store: Store) -> None:
    loaded = load_sides({"source": str(photo_folder)}, store)
    np.testing.assert_array_equal(loaded.images.pixels, photos)
    assert loaded.images.ids.tolist() == [content_id(pixels) for pixels in photos]
    assert loaded.images.names[3] == "a/c/d/3.png"
    assert loaded.accounts[0].left_out == ()
    assert isinstance(loaded.images.pixels, np.memmap)
    assert not loaded.images.pixels.flags.writeable


def test_real_images_are_pillows(data_file: Callable[[str], Path], tmp_path: Path, store: Store) -> None:
    rows = parquet.read_table(data_file("cifar10.parquet")).slice(0, 1100)  # more than are decoded at a time
    parquet.write_table(rows, tmp_path / "some.parquet")
    found = load_sides({"source": str(tmp_path / "some.parquet")}, store).images
    encoded = [row["bytes"] for row in rows["image"].to_pylist()]
    expected = [np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).transpose(2, 0, 1) for data in encoded]
    np.testing.assert_array_equal(found.pixels, expected)
    assert found.names.tolist() == [row["path"] for row in rows["image"].to_pylist()]


def test_unusable_images_are_left_out_and_listed_with_the_reason(
    photo_folder: Path, photos: Pixels, store: Store
) -> None:
    write_noise(photo_folder / "b" / "cut.jpg", 40, 40)
    content = (photo_folder / "b" / "cut.jpg").read_bytes()
    (photo_folder / "b" / "cut.jpg").write_bytes(content[: len(content) // 2])
    (photo_folder / "bomb.png").write_bytes(b"P6 10000 10000 255\n")  # a header is all it takes
    (photo_folder / "c.png").write_text("hello")
    write_noise(photo_folder / "d.png", 1, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's default for a bomb of this size is no error
        loaded = load_sides({"source": str(photo_folder)}, store, ReadOptions(allow_skipped=True))
    np.testing.assert_array_equal(loaded.images.pixels, photos)
    reasons = {entry.name: entry.reason for entry in loaded.accounts[0].left_out}
    assert reasons.pop("b/cut.jpg").startswith("broken: ")
    assert reasons == {
        "bomb.png": "of a decompression bomb's size",
        "c.png": "not an image",
        "d.png": "too small: 1×1 pixels for a size of 8",
    }


def test_what_the_files_say_is_kept_in_the_order_of_the_images(
    photo_folder: Path, tmp_path: Path, store: Store
) -> None:
    Image.open(photo_folder / "a" / "0.png").save(photo_folder / "a" / "0.jpg", quality=50)
    (photo_folder / "c.png").write_text("hello")
    parquet.write_table(make_table({"image": [(photo_folder / "f5.png").read_bytes()]}), tmp_path / "x.parquet")
    sources = {"members": str(photo_folder), "nonmembers": str(tmp_path / "x.parquet")}
    for _ in range(2):  # decoded, and then out of the store
        images = load_sides(sources, store, ReadOptions(allow_skipped=True)).images
        assert images.facts.shape == (len(images), len(FACTS))
        assert images.facts.dtype == np.float64
        for row, name in enumerate(images.names[:7]):
            np.testing.assert_array_equal(images.facts[row], file_facts(photo_folder / name))
        np.testing.assert_array_equal(images.facts[7], file_facts(photo_folder / "f5.png"))
        np.testing.assert_array_equal(images.take(np.array([7, 0])).facts, images.facts[[7, 0]])
        assert images.names[:2].tolist() == ["a/0.jpg", "a/0.png"]
        jpeg, png = images.facts[:2, FACTS.index("luminance quantisation")]
        assert jpeg > 0
        assert png == 0


def test_nulls_of_a_parquet_file_are_left_out(tmp_path: Path, photo_folder: Path, store: Store) -> None:
    image = (photo_folder / "f5.png").read_bytes()
    parquet.write_table(make_table({"image": [None, image, None]}), tmp_path / "x.parquet")
    loaded = load_sides({"source": str(tmp_path / "x.parquet")}, store, ReadOptions(allow_skipped=True))
    assert loaded.images.names.tolist() == ["x.parquet row 1"]
    assert [entry.name for entry in loaded.accounts[0].left_out] == ["x.parquet row 0", "x.parquet row 2"]


def test_source_without_a_usable_image_is_refused(photo_folder: Path, tmp_path: Path, store: Store) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("hello")
    with pytest.raises(MimiaError, match=r"No image of .*broken can be used: a\.png: not an image\."):
        load_sides({"members": str(photo_folder), "nonmembers": str(tmp_path / "broken")}, store)


def test_sides_have_rows_of_their_own_and_a_source_of_two_sides_is_read_once(
    photo_folder: Path, photos: Pixels, store: Store
) -> None:
    inner, outer = str(photo_folder / "a"), str(photo_folder)
    loaded = load_sides({"members": inner, "nonmembers": outer, "reference": inner}, store)
    assert len(loaded.images) == 4 + 6
    for side, expected in (("members", photos[:4]), ("nonmembers", photos), ("reference", photos[:4])):
        np.testing.assert_array_equal(loaded.images.pixels[loaded.rows[side]], expected)


def test_digits_are_grey_unless_they_stand_beside_colours(photo_folder: Path, store: Store) -> None:
    assert open_source("digits").channels == 1
    both = load_sides({"members": "digits", "nonmembers": str(photo_folder)}, store)
    assert both.images.pixels.shape == (1803, 3, 8, 8)
    assert load_sides({"source": str(photo_folder)}, store, ReadOptions(channels=1)).images.pixels.shape == (6, 1, 8, 8)


def test_size_is_that_of_most_images_and_must_be_given_where_there_is_none(tmp_path: Path, store: Store) -> None:
    folder = tmp_path / "mixed"
    for number, side in enumerate([10, 10, 12, 14]):
        write_noise(folder / f"{number}.png", side + number, side)

    def side_of(reading: ReadOptions | None = None) -> int:
        shape: tuple[int, ...] = load_sides({"source": str(folder)}, store, reading).images.pixels.shape
        return shape[-1]

    with pytest.raises(MimiaError, match="differ in size: pass a size to scale them to"):
        side_of()
    assert side_of(ReadOptions(size_if_mixed=11)) == 11
    write_noise(folder / "4.png", 10, 30)
    assert side_of() == 10
    assert side_of(ReadOptions(size_if_mixed=11)) == 10
    assert side_of(ReadOptions(image_size=9)) == 9


def test_images_are_decoded_once_until_a_file_changes(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "folder" / "image.bmp"  # the file's size does not tell its content

    def write(seed: int, modified: int) -> None:
        write_noise(path, 8, 8, seed)
        os.utime(path, ns=(modified, modified))

    def load() -> str:
        return load_sides({"source": str(path.parent)}, store).images.fingerprint

    write(seed=0, modified=1)
    first, artifacts = load(), set((store.root / "images").iterdir())
    assert load() == first
    assert set((store.root / "images").iterdir()) == artifacts
    write(seed=1, modified=1)  # as copies and archives do, which keep the time
    assert load() != first


def test_full_disk_is_refused_in_one_sentence(full_disk: Path) -> None:
    with pytest.raises(MimiaError, match=r"disk of the store .* is full: free some space"):
        load_sides({"source": np.zeros((10, 128, 128, 3), np.uint8)}, Store(full_disk))
