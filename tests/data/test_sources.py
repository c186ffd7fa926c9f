import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet
from sklearn.datasets import load_digits

from mimia.data.decoding import decode
from mimia.data.loading import load_images
from mimia.data.sources import open_source
from mimia.data.sources.base import Source
from mimia.data.sources.hub import Hub
from mimia.runtime.arrays import Pixels, content_id
from mimia.runtime.errors import MimiaError


@pytest.fixture(autouse=True)
def _cache_of_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))


def ids_of(source: Source) -> list[str]:
    return [content_id(decode(encoded, 8, source.channels)) for _, encoded, _ in source]


def write_dataset(path: Path, files: list[Path]) -> None:
    """Write a parquet file as `datasets` writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"bytes": file.read_bytes(), "path": None} for file in files]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"image": rows, "label": list(range(len(rows)))}, features)
    data.to_parquet(path)


def table(**columns: Any) -> bytes:
    """Encode columns as a parquet file."""
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def test_digits_are_scikit_learns() -> None:
    found = np.stack([decode(encoded, 8, 1)[0] for _, encoded, _ in open_source("digits")])
    assert found.max() == 255
    np.testing.assert_array_equal(np.rint(found * (16 / 255)), load_digits().images)


def test_folder_gives_image_files_at_any_depth_in_the_order_of_their_paths(photo_folder: Path, photos: Pixels) -> None:
    (photo_folder / "a" / "notes.txt").write_text("no image")
    (photo_folder / "a" / "._0.png").write_bytes(b"what macOS leaves in archives")
    (photo_folder / "g.png").mkdir()
    source = open_source(str(photo_folder))
    assert [item.name for item in source] == ["a/0.png", "a/1.png", "a/b/2.png", "a/c/d/3.png", "e/4.png", "f5.png"]
    assert ids_of(source) == [content_id(pixels) for pixels in photos]
    assert len(source) == 6


def labels_of(source: Source) -> list[str]:
    return [item.label for item in source]


def test_labels_of_the_digits_are_their_classes() -> None:
    assert labels_of(open_source("digits")) == [str(digit) for digit in load_digits().target]


def test_folders_are_classes_if_each_image_lies_in_one(photo_folder: Path) -> None:
    assert labels_of(open_source(str(photo_folder))) == [""] * 6
    (photo_folder / "f5.png").unlink()
    assert labels_of(open_source(str(photo_folder))) == ["a", "a", "b", "d", "e"]


def test_column_of_labels_holds_the_classes(data_file: Callable[[str], Path], tmp_path: Path) -> None:
    path = data_file("cifar10.parquet")
    expected = [str(label) for label in parquet.read_table(path, columns=["label"])["label"].to_pylist()]
    assert labels_of(open_source(str(path))) == expected
    bare = tmp_path / "bare.parquet"
    bare.write_bytes(table(image=[b"0"]))
    assert labels_of(open_source(str(bare))) == [""]


def test_data_set_tells_its_classes(tmp_path: Path, photo_folder: Path) -> None:
    features = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog"])})
    rows = [{"bytes": (photo_folder / "f5.png").read_bytes(), "path": None}] * 3
    data = datasets.Dataset.from_dict({"picture": rows, "kind": [1, 0, 1]}, features)
    (tmp_path / "data").mkdir()
    data.to_parquet(tmp_path / "data" / "train.parquet")
    assert labels_of(open_source(str(tmp_path / "data"))) == ["1", "0", "1"]


def test_suffix_in_capitals_is_that_of_an_image(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "DSC001.JPG")
    assert len(open_source(str(tmp_path))) == 1


def test_fingerprint_of_a_folder_follows_its_files(photo_folder: Path) -> None:
    def fingerprint() -> str:
        return open_source(str(photo_folder)).fingerprint

    found = [fingerprint()]
    assert fingerprint() == found[0]
    os.utime(photo_folder / "f5.png", (1, 1))
    found.append(fingerprint())
    (photo_folder / "f5.png").rename(photo_folder / "f6.png")
    found.append(fingerprint())
    (photo_folder / "f6.png").unlink()
    found.append(fingerprint())
    assert len(set(found)) == 4


def test_real_parquet_file_gives_its_images(data_file: Callable[[str], Path]) -> None:
    path = data_file("cifar10.parquet")
    rows = parquet.read_table(path).slice(0, 20).to_pylist()
    source = open_source(str(path))
    assert len(source) == 24_000
    expected = [(row["image"]["path"], row["image"]["bytes"], str(row["label"])) for row in rows]
    assert list(islice(source, 20)) == expected


def test_parquet_rows_may_lack_bytes_or_path(tmp_path: Path, photo_folder: Path) -> None:
    file = photo_folder / "f5.png"
    rows = [{"bytes": b"0", "path": "zero"}, {"bytes": b"1", "path": None}, {"bytes": None, "path": str(file)}]
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    path = tmp_path / "x.parquet"
    path.write_bytes(table(image=pyarrow.array([*rows, {"bytes": None, "path": None}, None], kind)))
    expected = [("zero", b"0", ""), ("x.parquet row 1", b"1", ""), (str(file), file, ""), ("x.parquet row 3", b"", "")]
    assert list(open_source(str(path))) == [*expected, ("x.parquet row 4", b"", "")]


@pytest.mark.parametrize("kind", [pyarrow.binary(), pyarrow.large_binary()], ids=str)
def test_parquet_column_may_hold_bare_bytes(tmp_path: Path, kind: pyarrow.DataType) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(table(img=pyarrow.array([b"0", None], kind)))
    assert list(open_source(str(path))) == [("x.parquet row 0", b"0", ""), ("x.parquet row 1", b"", "")]


@pytest.mark.parametrize(
    ("source", "content", "message"),
    [
        ("nowhere", {}, "nowhere does not exist: pass a folder of images or a parquet file"),
        ("nowhere.parquet", {}, r"nowhere\.parquet does not exist: pass"),
        (".", {}, r"no image files \(.*\.png.*\) in the folder"),
        ("texts", {"texts/a/b.txt": b"hello"}, r"no image files \(.*\.png.*\) in the folder .*texts"),
        ("a.txt", {"a.txt": b"hello"}, r"a\.txt is a file, but neither a folder of images nor a parquet file"),
        ("a.parquet", {"a.parquet": b"hello"}, r"a\.parquet is not a readable parquet file"),
        ("a.parquet", {"a.parquet": table(image=[b"0"] * 100)[:-50]}, r"a\.parquet is not a readable parquet file"),
        ("a.parquet", {"a.parquet": table(text=["a"], label=[1])}, "no column 'image' .* only: text, label. Rename"),
        ("a.parquet", {"a.parquet": table(image=[[0, 1, 2]])}, "no column 'image' of encoded images"),
        ("texts", {"texts/a.parquet": table(text=["a"], label=[1])}, "no column 'image' .* only: text, label"),
    ],
)
def test_what_holds_no_images_is_refused(tmp_path: Path, source: str, content: dict[str, bytes], message: str) -> None:
    for name, data in content.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    with pytest.raises(MimiaError, match=message):
        open_source(str(tmp_path / source))


def test_parquet_that_is_damaged_within_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    content = table(image=[bytes(range(256))] * 4)
    path.write_bytes(content[:4] + bytes(60) + content[64:])
    with pytest.raises(MimiaError, match=r"x\.parquet is damaged after row 0 .*: copy it again"):
        list(open_source(str(path)))


def test_directory_of_datasets_gives_the_images_of_its_training_split(
    tmp_path: Path, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_source(str(photo_folder))
    files = [file for _, file, _ in folder if isinstance(file, Path)]
    write_dataset(tmp_path / "data" / "test-00000.parquet", files[:2])
    write_dataset(tmp_path / "data" / "train-00000.parquet", files)
    with pytest.raises(MimiaError, match=r"has the splits test, train: say which, as in .*data:test"):
        open_source(str(tmp_path / "data"))
    name = f"{tmp_path / 'data'}:train"
    source = open_source(name)
    assert ids_of(source) == ids_of(folder)
    before = source.fingerprint
    assert source.notes == ("the split train alone, not test",)
    write_dataset(tmp_path / "data" / "train-00000.parquet", files[:3])
    assert open_source(name).fingerprint != before
    opened = datasets.load_dataset(str(tmp_path / "data"))
    monkeypatch.setattr("datasets.load_dataset", {"somebody/photos": opened}.__getitem__)
    assert ids_of(open_source("somebody/photos")) == ids_of(folder)[:3]
    assert ids_of(open_source("somebody/photos:test")) == ids_of(folder)[:2]
    with pytest.raises(MimiaError, match="has no split 'validation', but only: test, train"):
        open_source("somebody/photos:validation")


def test_image_folder_and_archives_give_through_datasets_what_the_folder_gives(
    tmp_path: Path, photo_folder: Path
) -> None:
    expected = ids_of(open_source(str(photo_folder)))
    assert sorted(ids_of(Hub(str(photo_folder)))) == sorted(expected)
    for suffix in ("zip", "tar"):
        (tmp_path / suffix).mkdir()
        shutil.make_archive(str(tmp_path / suffix / "photos"), suffix, photo_folder)
        assert sorted(ids_of(open_source(str(tmp_path / suffix)))) == sorted(expected), suffix


def test_name_that_is_no_utf_8_can_be_written_into_a_report(photo_folder: Path) -> None:
    (photo_folder / "f5.png").rename(os.fsdecode(bytes(photo_folder) + b"/caf\xe9.png"))
    names = [item.name for item in open_source(str(photo_folder))]
    assert "caf\ufffd.png" in names
    assert load_images(str(photo_folder)).names.tolist() == names


def test_unknown_name_is_refused_without_a_network() -> None:
    with pytest.raises(MimiaError, match=r"No images at 'nobody/nothing'.*without a network, pass a local folder"):
        open_source("nobody/nothing:test")


def test_hub_that_is_out_of_reach_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "ask.py").write_text("from mimia.data.sources import open_source; open_source('nobody/nothing')")
    ended = subprocess.run(
        [sys.executable, "ask.py"],
        cwd=tmp_path,
        env={**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "MimiaError: No images at 'nobody/nothing'" in ended.stderr
    assert "the hub is out of reach" in ended.stderr


def test_empty_name_is_no_folder() -> None:
    with pytest.raises(MimiaError, match="is empty: is a variable of the shell not set"):
        open_source("")
