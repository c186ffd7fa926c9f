import csv
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.arrays import fingerprint_of_ids
from mimia.config import Settings, read_settings
from mimia.encoders.checkpoints import native
from mimia.errors import MimiaError
from mimia.images.load import load_images
from mimia.pretraining.command import TRAINED_ON, pretrain
from mimia.store import Store


def settings_of(store: Path, **changes: Any) -> Settings:
    values: dict[str, Any] = {
        "store": str(store),
        "split": {"n_members": 30},
        "recipe": {"preset": "mae-nano", "epochs": 1, "batch_size": 10},
        "compute": {"device": "cpu", "threads": 1},
    }
    return read_settings(None, values | changes)


def trained_on(checkpoint: Path) -> list[dict[str, str]]:
    with (checkpoint / TRAINED_ON).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_checkpoint_opens_and_lists_what_it_was_trained_on(tmp_path: Path) -> None:
    checkpoint = pretrain(settings_of(tmp_path / "store"), tmp_path / "a" / "checkpoint")
    assert native.load(checkpoint).spec.image_size == 8
    training = native.load_training(checkpoint)
    assert training is not None
    assert training.images == 30
    images = load_images(["digits"], Store(tmp_path / "store")).images
    ids = dict(zip(images.names.tolist(), images.ids.tolist(), strict=True))
    rows = trained_on(checkpoint)
    assert len(rows) == 30
    assert all(ids[row["name"]] == row["id"] for row in rows)
    assert training.images_fingerprint == fingerprint_of_ids(row["id"] for row in rows)


def test_same_settings_train_once_and_write_the_same_weights(tmp_path: Path) -> None:
    steps = []
    handle = register_optimizer_step_post_hook(lambda *_: steps.append(1))
    paths = [pretrain(settings_of(tmp_path / "store"), tmp_path / name) for name in ("first", "second")]
    handle.remove()
    assert len(steps) == 3
    first, second = (native.load(path).state_dict() for path in paths)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_images_are_drawn_with_the_seed_of_the_split_and_all_are_taken_by_default(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1):
        settings = settings_of(tmp_path / "store", split={"n_members": 30, "seed": seed})
        drawn.append({row["name"] for row in trained_on(pretrain(settings, tmp_path / f"{seed}"))})
    assert len(drawn[0] & drawn[1]) < 10
    assert len(trained_on(pretrain(settings_of(tmp_path / "store", split={}), tmp_path / "all"))) == 1797


def test_empty_directory_is_filled_and_another_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert native.load_training(pretrain(settings_of(tmp_path / "store"), tmp_path / "empty"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("")
    for name in ("mine", "mine/notes"):
        with pytest.raises(MimiaError, match=rf"{name} is not empty: choose another directory .* --out"):
            pretrain(settings_of(tmp_path / "store"), tmp_path / name)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes"]


def test_more_images_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MimiaError, match=r"1,798 images are asked for, and there are 1,797: .* \(--n-images\)"):
        pretrain(settings_of(tmp_path / "store", split={"n_members": 1798}), tmp_path / "checkpoint")


def test_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path, full_disk: Path) -> None:
    with pytest.raises(MimiaError, match=r"cannot be written to .*No space left on device.*: free some space"):
        pretrain(settings_of(tmp_path / "store"), full_disk / "checkpoint")
    assert not any(full_disk.iterdir())
