"""`mimia store`: what lies in a store, whether it is whole, and what can go."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mimia.runtime.store import Store

Run = Callable[[str], tuple[int, str, str]]
MODEL = {"recipe": {"family": "mae", "size": "nano", "epochs": 3}, "seed": 5, "images": "0123456789"}
DAY = 86_400


@pytest.fixture
def run(store: Store, mimia: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command of `mimia store` on the store of the test."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda line: mimia(f"store {line} --store {store.root}")


def build(work: Path) -> None:
    (work / "value").write_bytes(bytes(12_345))


def leave(work: Path) -> None:
    build(work)
    raise KeyboardInterrupt


def interrupted(store: Store) -> Path:
    """Return the work directory of an artifact whose building was interrupted."""
    with pytest.raises(KeyboardInterrupt):
        store.make("models", {"interrupted": True}, leave)
    (work,) = (path for path in (store.root / "work" / "models").iterdir() if path.is_dir())
    return work


def damaged(store: Store) -> Path:
    path = store.make("signals", {"signal": "embeddings", "model": "fedcba9876543210"}, build)
    (path / "value").write_bytes(bytes(12_344) + b"1")
    return path


def of_old_version(store: Store) -> Path:
    old = store.root / "models" / ("0" * 32)
    old.mkdir(parents=True)
    (old / "artifact.json").write_text(json.dumps({"kind": "models", "settings": {}}))
    return old


def test_artifacts_are_listed_with_their_size_and_origin(store: Store, run: Run) -> None:
    store.make("models", MODEL, build)
    damaged(store)
    of_old_version(store)
    code, out, _ = run("ls")
    assert code == 0
    assert re.search(
        r"models/\w{8} +1\d\.\d kB +\d{4}-\d\d-\d\d \d\d:\d\d +0 days +mae-nano, 3 epochs, seed 5, images", out
    )
    assert re.search(r"signals/\w{8} .* embeddings of model fedcba98", out)
    assert re.search(r"models/00000000 .* of an older version, not used", out)
    assert "3 artifacts, " in out


@pytest.mark.parametrize("settings", [{}, {"architecture": {"family": "mae"}, "untrained": {}}, {"other": [1]}])
def test_artifact_of_any_settings_is_listed(store: Store, run: Run, settings: dict[str, object]) -> None:
    store.make("thing", settings, build)
    assert run("ls")[0] == 0


def test_damaged_artifacts_are_put_aside_and_make_the_exit_code(store: Store, run: Run) -> None:
    store.make("models", MODEL, build)
    path = damaged(store)
    of_old_version(store)
    code, out, err = run("verify")
    assert (code, path.exists()) == (1, False)
    assert out.startswith("1 artifacts are whole, 1 damaged, 1 of an older version without checksums")
    assert f"signals/{path.name} in the store" in err
    assert f"has other content in value than was written: it is moved to quarantine/signals-{path.name}-1" in err
    assert run("verify")[0] == 0


@pytest.mark.parametrize("content", ["", "{}", "no JSON"])
def test_artifact_with_a_damaged_record_is_listed_and_put_aside(store: Store, run: Run, content: str) -> None:
    path = damaged(store)
    (path / "artifact.json").write_text(content)
    assert "its record is damaged" in run("ls")[1]
    assert run("verify")[0] == 1
    assert not path.exists()


def test_artifact_under_the_name_of_another_is_put_aside(store: Store, run: Run) -> None:
    first, second = (store.make("thing", {"seed": seed}, build) for seed in (1, 2))
    first.rename(first.with_name("aside"))
    second.rename(first)
    first.with_name("aside").rename(second)
    code, out, _ = run("verify")
    assert (code, out.startswith("0 artifacts are whole, 2 damaged")) == (1, True)


def test_garbage_is_listed_and_deleted_only_when_asked(store: Store, run: Run) -> None:
    kept = store.make("models", MODEL, build)
    damaged(store)
    run("verify")
    gone = [interrupted(store), of_old_version(store), *(store.root / "quarantine").iterdir()]
    code, listed, _ = run("gc")
    assert (code, [path.exists() for path in gone]) == (0, [True] * 3)
    for why in ("left by an interrupted run", "of an older version", "damaged"):
        assert why in listed
    assert "can be freed in" in listed
    code, out, _ = run("gc --delete")
    assert (code, [path.exists() for path in gone]) == (0, [False] * 3)
    assert "freed in" in out
    assert kept.exists()
    assert run("gc")[1].startswith("0 B can be freed")


def test_unused_artifacts_go_after_some_days(store: Store, run: Run) -> None:
    old, new = (store.make("models", MODEL | {"seed": seed}, build) for seed in (1, 2))
    os.utime(old / "artifact.json", (time.time() - 40 * DAY,) * 2)
    assert "unused for 40 days" in run("gc --days 30")[1]
    run("gc --delete")
    assert old.exists()
    run("gc --days 30 --delete")
    assert (old.exists(), new.exists()) == (False, True)


def test_artifact_that_is_used_is_not_unused(store: Store, run: Run) -> None:
    path = store.make("models", MODEL, build)
    os.utime(path / "artifact.json", (time.time() - 40 * DAY,) * 2)
    store.make("models", MODEL, leave)
    run("gc --days 30 --delete")
    assert path.exists()


HOLDER = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print(flush=True)
    sys.stdin.read()
"""


def test_what_another_process_has_locked_stays(store: Store, run: Run) -> None:
    work = interrupted(store)
    lock = work.with_name(f"{work.name}.lock")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    assert "left by an interrupted run, but in use: kept" in run("gc --delete")[1]
    assert work.exists()
    holder.communicate()
    run("gc --delete")
    assert not work.exists()


def test_store_that_is_not_there_is_told(mimia: Run) -> None:
    for command in ("ls", "verify", "gc"):
        code, _, err = mimia(f"store {command} --store nowhere")
        assert (code, err) == (2, "Error: There is no store at nowhere: name another with --store.\n")
