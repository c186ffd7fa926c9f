"""Images as they lie on people's disks: read whole, or left out with the reason, and never another set of pictures."""

import io
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile
from pyarrow import parquet

from mimia.data.loading import LoadedImages, ReadOptions, load_sides
from mimia.data.sources import open_source
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

SIZE, COUNT = 8, 40
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def _caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "hf"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pictures() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (COUNT, SIZE, SIZE, 3), dtype=np.uint8)


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_folder(
    folder: Path, pictures: np.ndarray[Any, Any], suffix: str = ".png", start: int = 0, **options: Any
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(pictures, start):
        Image.fromarray(pixels).save(folder / f"{number:02d}{suffix}", **options)
    return folder


def write_parquet(path: Path, column: pa.Array, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.table({"image": column}), path, **options)
    return path


def cells(pictures: Pixels) -> pa.Array:
    return pa.array([{"bytes": png(pixels), "path": None} for pixels in pictures], STRUCT)


def load(source: object, tmp_path: Path, **options: Any) -> LoadedImages:
    return load_sides({"source": str(source)}, Store(tmp_path / "store"), ReadOptions(SIZE, **options))


def assert_same_pictures(loaded: LoadedImages, pictures: Pixels) -> None:
    found = {pixels.tobytes() for pixels in loaded.images.pixels.transpose(0, 2, 3, 1)}
    assert found == {pixels.tobytes() for pixels in pictures}


def assert_refused(source: object, tmp_path: Path, message: str, **options: Any) -> None:
    with pytest.raises(MimiaError, match=message) as refused:
        load(source, tmp_path, **options)
    assert len(str(refused.value)) < 400  # 300 and the paths of this test


# Bit depth


@pytest.mark.parametrize("bits", [10, 12])
def test_fewer_bits_in_png_of_sixteen_are_asked_for(tmp_path: Path, pictures: Pixels, bits: int) -> None:
    grey = pictures[..., 0].astype(np.uint16)
    folder = write_folder(tmp_path / "deep", grey << (bits - 8))
    assert_refused(folder, tmp_path, rf"do not say which value is white: pass --set data\.bit_depth={bits} if it is")
    loaded = load(folder, tmp_path, channels=1, bit_depth=bits)
    np.testing.assert_array_equal(loaded.images.pixels[:, 0], pictures[..., 0])


def test_values_of_sixteen_bits_need_no_question(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "deep", pictures[..., 0].astype(np.uint16) << 8)
    np.testing.assert_array_equal(load(folder, tmp_path, channels=1).images.pixels[:, 0], pictures[..., 0])


def test_eight_bits_in_tiff_of_thirty_two_are_asked_for(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "deep", pictures[..., 0].astype(np.int32), ".tif")
    assert_refused(folder, tmp_path, r"pass --set data\.bit_depth=8 if it is 255")
    loaded = load(folder, tmp_path, channels=1, bit_depth=8)
    np.testing.assert_array_equal(loaded.images.pixels[:, 0], pictures[..., 0])


def test_values_that_do_not_fit_the_bits_are_left_out(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "deep", pictures[..., 0].astype(np.int32) - 5, ".tif")
    assert_refused(folder, tmp_path, r"has values from -\d to \d+, which are not of 8 bits", bit_depth=8)


def test_tiff_that_says_its_largest_value_is_believed(tmp_path: Path, pictures: Pixels) -> None:
    grey = pictures[..., 0].astype(np.uint16) << 4
    folder = write_folder(tmp_path / "deep", grey, ".tif", tiffinfo={281: 4095})
    np.testing.assert_array_equal(load(folder, tmp_path, channels=1).images.pixels[:, 0], pictures[..., 0])


def test_dark_colours_of_sixteen_bits_are_asked_for(tmp_path: Path, pictures: Pixels) -> None:
    """Pillow writes no such file: a PNG by the standard, unfiltered."""
    (tmp_path / "deep").mkdir()
    for number, pixels in enumerate(pictures):
        (tmp_path / "deep" / f"{number}.png").write_bytes(png_of_sixteen(pixels.astype(np.uint16) << 4))
    assert_refused(tmp_path / "deep", tmp_path, r"whose values go up to 3,\d+.* pass --set data\.bit_depth")
    assert_refused(tmp_path / "deep", tmp_path, "colours of 12 bits stored as 16, .* convert it", bit_depth=12)
    assert load(tmp_path / "deep", tmp_path, bit_depth=16).images.pixels.max() < 16


def png_of_sixteen(values: np.ndarray[Any, Any], kind: int = 2) -> bytes:
    import struct
    import zlib

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_alpha_of_sixteen_bits_says_nothing_of_the_depth(tmp_path: Path, pictures: Pixels) -> None:
    (tmp_path / "deep").mkdir()
    for number, pixels in enumerate(pictures):
        opaque = np.full((*pixels.shape[:2], 1), 65_535, np.uint16)
        values = np.concatenate([pixels[..., :1].astype(np.uint16) << 4, opaque], axis=2)
        (tmp_path / "deep" / f"{number}.png").write_bytes(png_of_sixteen(values, kind=4))
    assert_refused(tmp_path / "deep", tmp_path, r"whose values go up to 3,\d+.* pass --set data\.bit_depth=12")


def test_one_bright_pixel_says_nothing_of_the_other_files(tmp_path: Path, pictures: Pixels) -> None:
    grey = pictures[..., 0].astype(np.uint16) << 4
    grey[0, 0, 0] = 65_535
    assert_refused(write_folder(tmp_path / "deep", grey), tmp_path, r"pass --set data\.bit_depth=12 if it is 4,095")


def test_white_may_be_zero(tmp_path: Path, pictures: Pixels) -> None:
    grey = pictures[..., 0].astype(np.uint16) << 8
    folder = write_folder(tmp_path / "deep", 65_535 - grey, ".tif", tiffinfo={262: 0})
    with Image.open(folder / "00.tif") as opened:
        assert isinstance(opened, TiffImageFile)
        assert opened.tag_v2[262] == 0
    np.testing.assert_array_equal(load(folder, tmp_path, channels=1).images.pixels[:, 0], pictures[..., 0])


def test_signed_bytes_are_left_out(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "signed", pictures[..., 0], ".tif", tiffinfo={339: 2})
    assert_refused(folder, tmp_path, "No image of .*: pixels are signed numbers", channels=1)


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_picture_in_the_alpha_channel_alone_is_left_out(tmp_path: Path, pictures: Pixels, suffix: str) -> None:
    shapes = np.concatenate([np.zeros_like(pictures), pictures[..., :1]], axis=3)
    folder = write_folder(tmp_path / "shapes", shapes, suffix, lossless=True, exact=True)
    assert_refused(folder, tmp_path, "No image of .*: one colour, its picture is in the alpha channel")


def test_pages_of_a_tiff_are_not_passed_over(tmp_path: Path, pictures: Pixels) -> None:
    pages = [Image.fromarray(pixels) for pixels in pictures]
    (tmp_path / "pages").mkdir()
    pages[0].save(tmp_path / "pages" / "all.tif", save_all=True, append_images=pages[1:])
    assert_refused(tmp_path / "pages", tmp_path, "a TIFF of 40 pages: save each as a file of its own")


# Folders


def test_linked_folders_and_files_are_followed(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos" / "cats", pictures[:10]).parent
    elsewhere = write_folder(tmp_path / "elsewhere", pictures[10:])
    (folder / "dogs").symlink_to(Path("..") / "elsewhere")
    loaded = load(folder, tmp_path)
    assert_same_pictures(loaded, pictures)
    assert (loaded.accounts[0].found, loaded.accounts[0].used) == (COUNT, COUNT)
    assert set(loaded.labels) == {"cats", "dogs"}
    assert elsewhere.is_dir()


def test_loop_and_broken_link_are_left_out_with_the_reason(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos" / "cats", pictures).parent
    (folder / "cats" / "up").symlink_to(folder)
    (folder / "cats" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert_refused(folder, tmp_path, r"2 of 42 .* \(cats/gone\.png: a broken link; cats/up: a link to a folder")
    loaded = load(folder, tmp_path, allow_skipped=True)
    assert_same_pictures(loaded, pictures)
    assert loaded.accounts[0].used == COUNT


def test_link_to_itself_is_left_out(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures)
    (folder / "a.png").symlink_to("a.png")
    assert_refused(folder, tmp_path, r"1 of 41 are left out \(a\.png: a broken link\)")


def test_other_pictures_under_the_same_names_sizes_and_times_are_read(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures, ".bmp")
    assert_same_pictures(load(folder, tmp_path), pictures)
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    write_folder(folder, 255 - pictures, ".bmp")
    for path, time in times.items():
        os.utime(path, ns=(time, time))
    assert_same_pictures(load(folder, tmp_path), 255 - pictures)


def test_pipe_in_a_folder_is_left_out(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures)
    os.mkfifo(folder / "pipe.png")
    assert_refused(folder, tmp_path, r"1 of 41 are left out \(pipe\.png: not a regular file\)")
    assert_refused(folder / "pipe.png", tmp_path, "is not a regular file, but a pipe")


def test_images_of_a_hidden_folder_are_counted(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures[:20])
    write_folder(folder / ".more", pictures[20:])
    assert_refused(folder, tmp_path, r"20 of 40 are left out \(\.more/00\.png: in a hidden folder")


def test_image_formats_of_cameras_and_browsers_are_read(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures[:10], ".ppm")
    write_folder(folder, pictures[10:20], ".jfif", 10, format="JPEG")
    write_folder(folder, pictures[20:30], ".JPE", 20, format="JPEG")
    write_folder(folder, pictures[30:], ".avif", 30)
    write_folder(folder, pictures[:1], "", 50, format="PNG")
    account = load(folder, tmp_path).accounts[0]
    assert (account.found, account.left_out) == (41, ())


def test_archive_and_unread_kind_are_named_and_counted(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", pictures)
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        archive.writestr("a.png", png(pictures[0]))
    (folder / "raw.heic").write_bytes(b"heic")
    (folder / "notes.txt").write_text("no data")
    assert_refused(folder, tmp_path, r"more\.zip: an archive: unpack it; raw\.heic: a file of another kind \(\.heic\)")
    account = load(folder, tmp_path, allow_skipped=True).accounts[0]
    assert (account.found, account.used, account.notes) == (42, 40, ("1 other file (.txt)",))
    assert str(account).endswith("; 1 other file (.txt)")


def test_one_in_a_hundred_may_be_left_out(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "photos", np.concatenate([pictures, pictures, pictures])[:99])
    (folder / "bad.png").write_text("no image")
    assert load(folder, tmp_path).accounts[0].used == 99
    (folder / "bad2.png").write_text("no image")
    assert_refused(folder, tmp_path, r"2 of 101 are left out .* pass --allow-skipped")


def test_training_and_test_images_are_not_mixed(tmp_path: Path, pictures: Pixels) -> None:
    folder = tmp_path / "photos"
    write_folder(folder / "train" / "cats", pictures[:10])
    write_folder(folder / "train" / "dogs", pictures[10:30])
    write_folder(folder / "test" / "cats", pictures[30:])
    assert_refused(folder, tmp_path, "has the splits test, train: say which, as in .*photos:test")
    assert_refused(f"{folder}:dev", tmp_path, "has no split 'dev', but only: test, train")
    loaded = load(f"{folder}:train", tmp_path)
    assert_same_pictures(loaded, pictures[:30])
    assert loaded.accounts[0].notes == ("the split train alone, not test",)
    assert_same_pictures(load(folder / "test", tmp_path), pictures[30:])


@pytest.mark.parametrize("second", ["b/test", "holdout", "eval"])
def test_splits_at_any_depth_are_not_mixed(tmp_path: Path, pictures: Pixels, second: str) -> None:
    first = "a/train" if "/" in second else "train"
    write_folder(tmp_path / "photos" / first, pictures[:30])
    write_folder(tmp_path / "photos" / second, pictures[30:])
    assert_refused(tmp_path / "photos", tmp_path, "has the splits .*: say which")
    assert_same_pictures(load(f"{tmp_path / 'photos'}:train", tmp_path), pictures[:30])


def test_folder_that_is_found_elsewhere_by_a_colon_is_no_hub_name(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "a:b", pictures)
    assert_same_pictures(load(folder, tmp_path), pictures)


# Parquet files


@pytest.mark.parametrize("kind", ["binary_view", "dictionary", "list", "large_list", "list_of_bytes"])
def test_columns_that_other_tools_write_are_read(tmp_path: Path, pictures: Pixels, kind: str) -> None:
    encoded = [png(pixels) for pixels in pictures]
    columns = {
        "binary_view": lambda: pa.array(encoded, pa.binary_view()),
        "dictionary": lambda: pa.array(encoded, pa.binary()).dictionary_encode(),
        "list": lambda: pa.array([[cell] for cell in cells(pictures).to_pylist()], pa.list_(STRUCT)),
        "large_list": lambda: pa.array([[cell] for cell in cells(pictures).to_pylist()], pa.large_list(STRUCT)),
        "list_of_bytes": lambda: pa.array(
            [[first, second] for first, second in zip(*[iter(encoded)] * 2, strict=True)]
        ),
    }
    loaded = load(write_parquet(tmp_path / "x.parquet", columns[kind]()), tmp_path)
    assert_same_pictures(loaded, pictures)
    assert loaded.accounts[0].found == COUNT


@pytest.mark.parametrize("kind", ["structs", "strings", "dictionary"])
def test_paths_start_from_the_parquet_file(
    tmp_path: Path, pictures: Pixels, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_folder(tmp_path / "data" / "images", pictures)
    write_folder(tmp_path / "elsewhere" / "images", 255 - pictures)
    names = [f"images/{number:02d}.png" for number in range(COUNT)]
    structs = pa.array([{"bytes": None, "path": name} for name in names], STRUCT)
    column = {"structs": structs, "strings": pa.array(names), "dictionary": pa.array(names).dictionary_encode()}[kind]
    path = write_parquet(tmp_path / "data" / "x.parquet", column)
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert_same_pictures(load(path, tmp_path), pictures)


@pytest.mark.parametrize("name", ["../outside.png", "{root}/outside.png", "link/outside.png", "/dev/zero"])
def test_paths_out_of_the_parquet_files_folder_are_not_read(tmp_path: Path, pictures: Pixels, name: str) -> None:
    write_folder(tmp_path, pictures[:1], ".png")
    (tmp_path / "00.png").rename(tmp_path / "outside.png")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "link").symlink_to(tmp_path)
    rows = [*cells(pictures).to_pylist(), {"bytes": None, "path": name.format(root=tmp_path)}]
    path = write_parquet(tmp_path / "data" / "x.parquet", pa.array(rows, STRUCT))
    assert_refused(path, tmp_path, r"1 of 41 are left out \(.*(outside\.png|zero): outside of ")


def test_pipe_in_a_cell_is_left_out(tmp_path: Path, pictures: Pixels) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    rows = [*cells(pictures).to_pylist(), {"bytes": None, "path": "pipe.png"}]
    path = write_parquet(tmp_path / "x.parquet", pa.array(rows, STRUCT))
    assert_refused(path, tmp_path, r"1 of 41 are left out \(pipe\.png: not a regular file\)")


def test_damaged_rows_are_counted(tmp_path: Path, pictures: Pixels) -> None:
    path = write_parquet(tmp_path / "x.parquet", cells(pictures), compression="none", use_dictionary=False)
    cell = png(pictures[5])
    path.write_bytes(path.read_bytes().replace(cell, cell[:40] + b"\xff" * (len(cell) - 40)))
    assert_refused(path, tmp_path, r"1 of 40 are left out \(x\.parquet row 5: ")


def test_page_with_a_wrong_checksum_is_refused(tmp_path: Path, pictures: Pixels) -> None:
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    path = write_parquet(tmp_path / "x.parquet", cells(pictures), **options)
    content = bytearray(path.read_bytes())
    content[content.index(png(pictures[5])) + 60] ^= 1
    path.write_bytes(content)
    assert_refused(path, tmp_path, r"x\.parquet is damaged after row 0 .*: copy it again")


def test_shards_are_one_set(tmp_path: Path, pictures: Pixels) -> None:
    for shard in range(2):
        write_parquet(tmp_path / "x" / f"train-{shard:05d}-of-00002.parquet", cells(pictures[shard::2]))
    write_parquet(tmp_path / "y" / "label=0" / "part-0.pq", cells(pictures[:7]))
    write_parquet(tmp_path / "y" / "label=1" / "part-1.parquet", cells(pictures[7:]))
    for folder in ("x", "y"):
        assert_same_pictures(load(tmp_path / folder, tmp_path), pictures)


def test_missing_shard_is_counted(tmp_path: Path, pictures: Pixels) -> None:
    for shard in range(2):
        write_parquet(tmp_path / "x" / f"train-{shard:05d}-of-00003.parquet", cells(pictures[shard::2]))
    assert_refused(tmp_path / "x", tmp_path, r"left out \(train-00002-of-00003\.parquet: a missing file\)")


def test_partitions_by_split_are_not_mixed(tmp_path: Path, pictures: Pixels) -> None:
    write_parquet(tmp_path / "x" / "split=train" / "part-0.parquet", cells(pictures[:30]))
    write_parquet(tmp_path / "x" / "split=test" / "part-0.parquet", cells(pictures[30:]))
    assert_refused(tmp_path / "x", tmp_path, "has the splits test, train: say which")
    assert_same_pictures(load(f"{tmp_path / 'x'}:train", tmp_path), pictures[:30])


def test_empty_list_is_counted(tmp_path: Path, pictures: Pixels) -> None:
    lists = [*([cell] for cell in cells(pictures).to_pylist()), []]
    path = write_parquet(tmp_path / "x.parquet", pa.array(lists, pa.list_(STRUCT)))
    assert_refused(path, tmp_path, r"1 of 41 are left out \(x\.parquet row 40: an empty list\)")


def test_parquet_with_a_preview_gives_its_rows_and_names_the_preview(tmp_path: Path, pictures: Pixels) -> None:
    write_parquet(tmp_path / "x" / "data.parquet", cells(pictures))
    Image.fromarray(pictures[0]).save(tmp_path / "x" / "preview.png")
    loaded = load(tmp_path / "x", tmp_path)
    assert_same_pictures(loaded, pictures)
    assert loaded.accounts[0].notes == ("1 image file beside the parquet files (preview.png)",)


def test_images_with_a_few_rows_are_images_and_as_many_rows_are_refused(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "x", pictures)
    write_parquet(folder / "some.parquet", cells(pictures[:2]))
    assert_refused(folder, tmp_path, r"1 of 41 are left out \(some\.parquet: a parquet file of 2 rows\)")
    write_parquet(folder / "some.parquet", cells(pictures))
    assert_refused(folder, tmp_path, "has 40 rows in parquet files and 40 image files: pass a folder or a file")


def test_table_of_facts_beside_images_is_no_data(tmp_path: Path, pictures: Pixels) -> None:
    folder = write_folder(tmp_path / "x", pictures)
    parquet.write_table(pa.table({"file_name": ["00.png"], "label": [1]}), folder / "metadata.parquet")
    account = load(folder, tmp_path).accounts[0]
    assert (account.found, account.notes) == (40, ("1 other file (.parquet)",))


def test_column_of_any_name_is_taken_if_it_is_the_only_one(tmp_path: Path, pictures: Pixels) -> None:
    encoded = [png(pixels) for pixels in pictures]
    parquet.write_table(pa.table({"picture": encoded, "n": range(COUNT)}), tmp_path / "x.parquet")
    assert_same_pictures(load(tmp_path / "x.parquet", tmp_path), pictures)
    parquet.write_table(pa.table({"picture": encoded, "mask": encoded}), tmp_path / "y.parquet")
    assert_refused(tmp_path / "y.parquet", tmp_path, r"several columns that could be images \(picture, mask\): rename")


# Data sets and addresses


def test_saved_data_set_is_read(tmp_path: Path, pictures: Pixels) -> None:
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": cells(pictures).to_pylist(), "label": [0, 1] * (COUNT // 2)}
    saved = datasets.Dataset.from_dict(rows, features)
    saved.save_to_disk(tmp_path / "saved")
    loaded = load(tmp_path / "saved", tmp_path)
    assert_same_pictures(loaded, pictures)
    assert loaded.labels[:2].tolist() == ["0", "1"]
    both = datasets.DatasetDict({"train": saved.select(range(30)), "test": saved.select(range(30, COUNT))})
    both.save_to_disk(tmp_path / "both")
    assert_refused(tmp_path / "both", tmp_path, "has the splits test, train: say which, as in .*both:test")
    assert_same_pictures(load(f"{tmp_path / 'both'}:test", tmp_path), pictures[30:])
    shutil.copy(next((tmp_path / "saved").glob("*.arrow")), tmp_path / "saved" / "more.arrow")
    assert_refused(tmp_path / "saved", tmp_path, r"more\.arrow: a data file that state\.json does not name")
    next((tmp_path / "saved").glob("data*.arrow")).write_bytes(b"damaged")
    assert_refused(tmp_path / "saved", tmp_path, "cannot be opened by datasets.load_from_disk .*: save it again")


def test_saved_data_set_names_no_file_elsewhere(tmp_path: Path, pictures: Pixels) -> None:
    write_folder(tmp_path / "outside", pictures)
    paths = [{"bytes": None, "path": str(tmp_path / "outside" / f"{number:02d}.png")} for number in range(COUNT)]
    saved = datasets.Dataset.from_dict({"image": paths}, datasets.Features({"image": datasets.Image()}))
    saved.save_to_disk(tmp_path / "saved")
    stored = datasets.load_from_disk(str(tmp_path / "saved")).cast_column("image", datasets.Image(decode=False))
    if stored[0]["image"]["bytes"] is None:  # `datasets` embeds what it can
        assert_refused(tmp_path / "saved", tmp_path, "No image of .* can be used: .*outside of ")
    else:
        assert_same_pictures(load(tmp_path / "saved", tmp_path), pictures)


def test_two_columns_of_images_are_not_mixed(pictures: Pixels) -> None:
    rows = cells(pictures).to_pylist()
    kinds = datasets.Features({"before": datasets.Image(), "image": datasets.Image()})
    data = datasets.Dataset.from_dict({"before": rows[::-1], "image": rows}, kinds)
    source = open_source(data)
    assert source.notes == ("the column image alone, not before",)
    assert next(iter(source)).image == rows[0]["bytes"]
    with pytest.raises(MimiaError, match=r"several columns of images \(before, after\): rename the one to 'image'"):
        open_source(data.rename_column("image", "after"))


def test_folder_of_several_kinds_of_data_files_is_refused(tmp_path: Path, pictures: Pixels) -> None:
    (tmp_path / "x").mkdir()
    with zipfile.ZipFile(tmp_path / "x" / "a.zip", "w") as archive:
        archive.writestr("a.png", png(pictures[0]))
    (tmp_path / "x" / "b.tar").write_bytes(b"")
    assert_refused(tmp_path / "x", tmp_path, r"has files of the kinds \.tar, \.zip: pass a folder with one of them")


def test_folder_at_an_address_is_read_where_it_lies_or_copied(tmp_path: Path, pictures: Pixels) -> None:
    import fsspec

    folder = write_folder(tmp_path / "my photos", pictures)
    assert_same_pictures(load(f"file://{folder}", tmp_path), pictures)
    memory = fsspec.filesystem("memory")
    for path in folder.iterdir():
        memory.pipe(f"/photos/cats/{path.name}", path.read_bytes())
    loaded = load("memory://photos", tmp_path)
    assert_same_pictures(loaded, pictures)
    assert loaded.accounts[0].name == "memory://photos"


def test_split_of_a_folder_at_an_address_can_be_chosen(tmp_path: Path, pictures: Pixels) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number, pixels in enumerate(pictures):
        memory.pipe(f"/sets/{'train' if number < 30 else 'test'}/{number}.png", png(pixels))
    assert_refused(
        "memory://sets", tmp_path, r"memory://sets has the splits test, train: say which, .*memory://sets:test"
    )
    assert_same_pictures(load("memory://sets:train", tmp_path), pictures[:30])
    folder = write_folder(tmp_path / "sets" / "train", pictures[:30]).parent
    write_folder(folder / "test", pictures[30:])
    assert_same_pictures(load(f"file://{folder}:test", tmp_path), pictures[30:])


def test_changed_files_at_an_address_are_copied_again(tmp_path: Path, pictures: Pixels) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for changed in (pictures, 255 - pictures):
        for number, pixels in enumerate(changed):
            memory.pipe(f"/changing/{number}.bmp", bmp(pixels))
        assert_same_pictures(load("memory://changing", tmp_path), changed)


def bmp(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return buffer.getvalue()


@pytest.mark.parametrize("address", ["dir://x", "ftp://127.0.0.1:1/x", "zip://x.zip", "file://", "reference://x"])
def test_address_that_cannot_be_read_is_refused_in_a_sentence(tmp_path: Path, address: str) -> None:
    assert_refused(address, tmp_path, "cannot be (opened|read)|is no address of a file")


def test_address_that_needs_a_package_says_so(tmp_path: Path) -> None:
    assert_refused("s3://bucket/photos", tmp_path, r"s3://bucket/photos cannot be (opened|read) \(")
