"""Passwords and tokens in addresses: the run uses them, and nothing that is written or printed has them."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.cli.input import run_directory
from mimia.config.settings import read_settings
from mimia.config.toml import to_toml
from mimia.data.account import announce
from mimia.data.loading import load_sides
from mimia.jobs.audit import audit
from mimia.report.files import read_report, write_run
from mimia.report.sections.candidates import Candidate
from mimia.runtime.arrays import Pixels
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.runtime.text import masked, masked_address

SECRETS = ("hunter2", "t0ken", "me:")
ADDRESSES = {
    "https://me:hunter2@host/path?token=t0ken": "https://***@host/path?token=***",
    "https://me:hunter2@host:8443/path?model=t0ken&b=t0ken#t0ken": "https://***@host:8443/path?model=***&b=***#***",
    "https://t0ken@host": "https://***@host",
    "https://host/?t0ken": "https://host/?***",
    "https://host/path;a?token=t0ken;b=t0ken": "https://host/path;a?token=***;b=***",
    "s3://me:hunter2@bucket/mimia": "s3://***@bucket/mimia",
    "s3://me:t0k/en+t0ken/hunter2@bucket/mimia": "s3://***@bucket/mimia",
    "simplecache::s3://me:hunter2@bucket": "simplecache::s3://***@bucket",
    "https://me:hunter2@t0ken@host/": "https://***@host/",
    "http://host/embed;token=t0ken/v1": "http://host/embed;token=***/v1",
    "http:/me:hunter2@host/path": "http:/***@host/path",
    "me:hunter2@host/path": "***@host/path",
    "https://[::1]:8080/path": "https://[::1]:8080/path",
    "https://host:8080/a@b": "https://host:8080/a@b",
    "https://host/a?b=": "https://host/a?b=",
    "data:image/png;base64,AAAA": "data:image/png;base64,AAAA",
    "me@host": "me@host",
    "C:\\models\\a": "C:\\models\\a",
}


@pytest.mark.parametrize("address", list(ADDRESSES))
def test_secrets_of_an_address_are_masked(address: str) -> None:
    assert masked_address(address) == ADDRESSES[address]
    assert masked(f"“{address}” and {address} end") == f"“{ADDRESSES[address]}” and {ADDRESSES[address]} end"
    assert masked_address(ADDRESSES[address]) == ADDRESSES[address]


@pytest.mark.parametrize(
    "address", ["https://me:hunt er2@host/", "https://me:'hunter2\"<@host/", "https://me:\thunter2@h"]
)
def test_secrets_with_any_characters_are_masked(address: str) -> None:
    assert "hunt" not in masked_address(address)


def test_errors_have_no_secrets() -> None:
    error = MimiaError("The store s3://me:hunter2@bucket cannot be opened (https://h/?token=t0ken): pass another.")
    assert str(error) == "The store s3://***@bucket cannot be opened (https://h/?token=***): pass another."


@pytest.mark.parametrize(
    "arguments",
    [
        ["--data", "https://me:hunter2@127.0.0.1:1/?token=t0ken"],
        ["--store", "nosuch://me:hunter2@bucket?token=t0ken"],
        ["--set", "recipe.preset=https://me:hunter2@h"],
        ["--set", "data.near_duplicates=https://me:hunter2@" + "h" * 1000],
        ["--set", "https://me:hunter2@h"],
        ["--target", "https://me:hunter2@h/", "--members", "digits", "--nonmembers", "digits"],
        ["--embeddings", "https://me:hunter2@127.0.0.1:1/?token=t0ken", "--members", "a", "--nonmembers", "b"],
        ["--embeddings", "https://***@host/", "--members", "a", "--nonmembers", "b"],
    ],
    ids=lambda arguments: arguments[0] + arguments[1][:20],
)
def test_command_line_prints_no_secrets(tmp_path: Path, arguments: list[str]) -> None:
    store = [] if "--store" in arguments else ["--store", str(tmp_path)]
    result = CliRunner().invoke(app, ["audit", *store, "--out", str(tmp_path / "run"), *arguments])
    assert isinstance(result.exception, MimiaError)
    assert not any(secret in str(result.exception) + result.output for secret in SECRETS)


def test_settings_file_has_no_secrets_and_says_so() -> None:
    settings = read_settings(None, {"embeddings": "https://me:hunter2@host/?token=t0ken"})
    text = to_toml(settings)
    assert not any(secret in text for secret in SECRETS)
    assert text.startswith("# Secrets of addresses are masked (***): put them in again")


def test_masked_settings_are_refused_until_their_secrets_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(to_toml(read_settings(None, {"embeddings": "https://me:hunter2@host/"})))
    with pytest.raises(MimiaError, match=r"Setting embeddings: its secrets are masked \(\*\*\*\): type them again"):
        read_settings(path, {})
    whole = "https://me:hunter2@host/"
    assert read_settings(path, {"embeddings": whole}).embeddings == whole


def test_runs_that_differ_in_secrets_share_a_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = [read_settings(None, {"embeddings": f"https://host/?token={token}"}) for token in "ab"]
    assert run_directory("audit", settings[0]) == run_directory("audit", settings[1])


def test_parts_of_a_report_and_tables_have_no_secrets(tmp_path: Path) -> None:
    name = "https://me:hunter2@host/a.png?token=t0ken"
    assert Candidate(name=name, id="", score=1, p_value=0.5, listed=True).name == "https://***@host/a.png?token=***"
    report = read_report(Path(__file__).with_name("corpus") / "report" / "audit-4.json")
    write_run(tmp_path, report, {"name": [name]})
    assert "hunter2" not in (tmp_path / "scores.csv").read_text()


@pytest.mark.slow
def test_run_uses_the_secrets_and_writes_none(
    tmp_path: Path, serve: Callable[..., AbstractContextManager[str]]
) -> None:
    def answer(pixels: Pixels) -> bytes:
        buffer = io.BytesIO()
        np.save(buffer, pixels.reshape(len(pixels), -1)[:, ::2].astype(np.float32))
        return buffer.getvalue()

    sides = {"members": tmp_path / "a", "nonmembers": tmp_path / "b"}
    generator = np.random.default_rng(0)
    for side in sides.values():
        side.mkdir()
        for number in range(300):
            Image.fromarray(generator.integers(0, 256, (8, 8), dtype=np.uint8)).save(side / f"{number}.png")
    values: dict[str, Any] = {
        "store": str(tmp_path / "store"),
        "recipe": {"preset": "mae-nano", "epochs": 1},
        "split": {"n_members": 40, "n_nonmembers": 60, "shadow_size": 40, "n_holdout": 40},
        "signals": {"draws": 2},
        "data": {name: str(side) for name, side in sides.items()},
    }
    with serve(answer) as url:
        address = f"{url.replace('://', '://me:hunter2@')}?token=t0ken"
        audit(settings=read_settings(None, values | {"embeddings": address})).save(tmp_path / "run")
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(secret.encode() in text for secret in SECRETS for text in texts)
    assert b"***@127.0.0.1" in (tmp_path / "run" / "report.json").read_bytes()


def test_store_and_source_at_an_address_do_not_name_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import fsspec

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for number in range(5):
        content = io.BytesIO()
        Image.effect_noise((8, 8), 50 + number).save(content, "PNG")
        fsspec.filesystem("memory").pipe(f"/me:hunter2@photos/{number}.png", content.getvalue())
    store = Store("memory://me:hunter2@results", cache=tmp_path / "mirror")
    assert store.location == "memory://***@results"
    loaded = load_sides({"source": "memory://me:hunter2@photos"}, store)
    announce(loaded.accounts)
    assert loaded.accounts[0].name == "memory://***@photos"
    assert not any(secret in capsys.readouterr().err for secret in SECRETS)
    records = [path.read_text() for path in (tmp_path / "mirror").rglob("*.json")]
    assert records
    assert not any(secret in record for secret in SECRETS for record in records)
