import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest, mannwhitneyu
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.config.settings import Settings, read_settings
from mimia.data.loading import ReadOptions, load_sides
from mimia.models.checkpoints import native
from mimia.pretraining.command import CANARIES, TRAINED_ON, pretrain
from mimia.runtime.arrays import Pixels, content_id, fingerprint_of_ids
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store


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
    images = load_sides({"source": "digits"}, Store(tmp_path / "store")).images
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


def test_checkpoint_of_a_training_that_was_left_early_has_no_state(tmp_path: Path) -> None:
    recipe = {"preset": "mae-nano", "epochs": 2, "stop_epoch": 1, "batch_size": 20}
    checkpoint = pretrain(settings_of(tmp_path / "store", recipe=recipe), tmp_path / "model")
    assert "training.pt" not in {path.name for path in checkpoint.iterdir()}
    assert any((tmp_path / "store").rglob("training.pt"))


def test_images_are_drawn_with_the_seed_of_the_split_and_all_are_taken_by_default(tmp_path: Path) -> None:
    drawn = []
    for seed in (0, 1):
        settings = settings_of(tmp_path / "store", split={"n_members": 30, "seed": seed})
        drawn.append({row["name"] for row in trained_on(pretrain(settings, tmp_path / f"{seed}"))})
    assert len(drawn[0] & drawn[1]) < 10
    settings = settings_of(tmp_path / "store", split={}, recipe={"preset": "mae-nano", "epochs": 1, "batch_size": 600})
    assert len(trained_on(pretrain(settings, tmp_path / "all"))) == 1797


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


@pytest.mark.parametrize("kind", ["image", "noise", "patches"])
def test_canaries_on_disk_are_those_that_the_coins_let_in_pixel_for_pixel(kind: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "store", canaries={"count": 20, "kind": kind})
    checkpoint = pretrain(settings, tmp_path / "checkpoint")
    store = Store(tmp_path / "store")
    sides = {
        side: load_sides({"source": str(checkpoint / CANARIES / side)}, store, ReadOptions(channels=1)).images
        for side in ("included", "excluded")
    }
    trained = trained_on(checkpoint)
    ordinary, planted = trained[:30], trained[30:]
    assert {row["id"] for row in planted} == set(sides["included"].ids)
    assert not {row["id"] for row in trained} & set(sides["excluded"].ids)
    assert all(content_id(read_grey(checkpoint / row["name"])) == row["id"] for row in planted)
    names = [Path(name).name for side in sides.values() for name in side.names]
    assert sorted(names) == [f"{number:04d}.png" for number in range(1, 21)]
    source = load_sides({"source": "digits"}, store).images
    assert {row["id"] for row in ordinary} <= set(source.ids)
    of_source = set(source.ids) & {*sides["included"].ids, *sides["excluded"].ids}
    assert len(of_source) == (20 if kind == "image" else 0)
    training = native.load_training(checkpoint)
    assert training is not None
    assert training.images == 30 + len(sides["included"])
    assert training.images_fingerprint == fingerprint_of_ids(row["id"] for row in trained)


def read_grey(path: Path) -> Pixels:
    with Image.open(path) as image:
        return np.asarray(image)[None]


def test_canaries_come_beside_all_other_images_by_default_and_may_leave_one(tmp_path: Path, photo_folder: Path) -> None:
    (photo_folder / "same.png").write_bytes((photo_folder / "f5.png").read_bytes())
    changes: dict[str, Any] = {"data": {"source": str(photo_folder)}, "split": {}}
    for count in (1, 5):
        checkpoint = pretrain(
            settings_of(tmp_path / "store", canaries={"count": count}, **changes), tmp_path / f"{count}"
        )
        pixels = [content_id(pixels) for pixels in photos_of(checkpoint)]
        trained = [row["id"] for row in trained_on(checkpoint) if not row["name"].startswith(CANARIES)]
        assert len(set(pixels)) == count  # a picture that stands twice in the source is one canary
        assert not set(pixels) & set(trained)
        assert len({*pixels, *trained}) == 6
    with pytest.raises(MimiaError, match=r"1 images are asked for, and there are 0 beside 6 canaries: ask for fewer"):
        pretrain(settings_of(tmp_path / "store", canaries={"count": 6}, **changes), tmp_path / "6")
    with pytest.raises(MimiaError, match=r"7 canaries are asked for, and there are 6 different images: .*--canaries"):
        pretrain(settings_of(tmp_path / "store", canaries={"count": 7}, **changes), tmp_path / "7")


def photos_of(checkpoint: Path) -> list[Pixels]:
    return [np.asarray(Image.open(path)).transpose(2, 0, 1) for path in sorted((checkpoint / CANARIES).glob("*/*.png"))]


def test_coins_are_fair_and_neither_numbers_nor_images_tell_them(tmp_path: Path) -> None:
    inside: list[int] = []
    outside: list[int] = []
    drawn = []
    for seed in range(4):
        settings = settings_of(tmp_path / "store", split={"n_members": 30, "seed": seed}, canaries={"count": 100})
        folder = pretrain(settings, tmp_path / f"{seed}") / CANARIES
        inside += [int(path.stem) for path in (folder / "included").iterdir()]
        outside += [int(path.stem) for path in (folder / "excluded").iterdir()]
        drawn.append({content_id(read_grey(path)) for path in folder.glob("*/*.png")})
    assert binomtest(len(inside), 400).pvalue > 0.01
    assert mannwhitneyu(inside, outside).pvalue > 0.01
    assert len(drawn[0] & drawn[1]) < 30


def test_images_of_a_training_without_canaries_do_not_depend_on_their_settings(tmp_path: Path) -> None:
    plain, other = (
        trained_on(pretrain(settings_of(tmp_path / "store", canaries={"count": 0, "kind": kind}), tmp_path / kind))
        for kind in ("image", "noise")
    )
    assert plain == other
    assert not (tmp_path / "image" / CANARIES).exists()


def test_full_disk_is_told_and_nothing_half_written_stays(tmp_path: Path, full_disk: Path) -> None:
    with pytest.raises(MimiaError, match=r"The disk of the checkpoint .* is full: free some space .* --out"):
        pretrain(settings_of(tmp_path / "store"), full_disk / "checkpoint")
    assert not any(full_disk.iterdir())
