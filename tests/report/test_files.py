import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mimia.config.settings import Settings, read_settings
from mimia.report.files import read_report, write_page, write_run
from mimia.report.html import render_report
from mimia.report.schema import AuditReport, Candidate, InferenceReport, Report
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import from_cell

SCORES: Mapping[str, Sequence[object]] = {
    "name": ['a, "b"; c.png', "two\nlines.png", " Größe 猫.png", "", "'=1+1'.png"],
    "role": ["member", "nonmember", "holdout", "member", "nonmember"],
    "threshold score": [0.1 + 0.2, -1e-300, 1 / 3, float(np.float32(0.1)), 5.0],
    "threshold p-value": [0.5, 1.0, "", 1e-12, 0.25],
}
FILES = ["report.html", "report.json", "scores.csv", "settings.toml"]


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write each kind of run, into a directory that is not there before."""
    return write_run(tmp_path_factory.mktemp("runs") / "deep" / "run", report, SCORES).parent


def test_run_is_four_files(written: Path, report: Report) -> None:
    assert sorted(path.name for path in written.iterdir()) == FILES
    assert (written / "report.html").read_text(encoding="utf-8") == render_report(report)


def test_scores_are_read_as_they_were_written(written: Path) -> None:
    with (written / "scores.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == list(SCORES)
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    assert tuple(map(from_cell, columns["name"])) == tuple(SCORES["name"])
    assert columns["role"] == tuple(SCORES["role"])
    assert [float(value) for value in columns["threshold score"]] == SCORES["threshold score"]
    assert [float(value) if value else "" for value in columns["threshold p-value"]] == SCORES["threshold p-value"]


def test_columns_of_different_lengths_are_no_table(audit_report: AuditReport, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shorter"):
        write_run(tmp_path, audit_report, {"name": ["a", "b"], "score": [1.0]})
    assert list(tmp_path.iterdir()) == []


def test_settings_of_a_run_repeat_it(written: Path, settings: Settings) -> None:
    assert read_settings(written / "settings.toml", {}) == settings
    assert json.loads((written / "report.json").read_text())["run"]["settings"] == settings.model_dump(mode="json")


def test_report_is_read_as_it_was_written(written: Path, report: Report) -> None:
    found = read_report(written)
    assert type(found) is type(report)
    assert found == report


def test_page_is_rendered_anew_as_it_was(written: Path, tmp_path: Path) -> None:
    assert write_page(tmp_path, read_report(written)) == tmp_path / "report.html"
    assert (tmp_path / "report.html").read_bytes() == (written / "report.html").read_bytes()


def test_run_of_the_same_directory_is_replaced(
    audit_report: AuditReport, inference_report: InferenceReport, tmp_path: Path
) -> None:
    write_run(tmp_path, audit_report, SCORES)
    write_run(tmp_path, inference_report, {"name": ["only"]})
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES
    assert read_report(tmp_path) == inference_report
    assert (tmp_path / "scores.csv").read_text().split() == ["name", "only"]


def test_directory_without_a_report_is_refused(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        with pytest.raises(
            MimiaError, match=rf"There is no report\.json in {directory}: pass the directory of a run\."
        ):
            read_report(directory)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], r"no valid JSON: .*"),
        (lambda _: b"", r"no valid JSON: .*"),
        (lambda content: content.replace(b"2026", b"\xff\xfe"), r"no valid JSON: .*"),
        (lambda _: b"[]", r"Input should be .*"),
        (lambda content: content.replace(b'"schema_version": 4', b'"schema_version": "4"'), r".*: Input should be 4"),
        (lambda content: content.replace(b'"kind": "audit"', b'"kind": "poem"'), r".*'kind'.*"),
        (lambda content: content.replace(b'"seconds": 98.7', b'"minutes": 1.6'), r".*\.seconds: Field required"),
    ],
    ids=["truncated", "empty", "not text", "a list", "other version", "other kind", "other keys"],
)
def test_damaged_report_is_refused_in_one_sentence(
    audit_report: AuditReport, tmp_path: Path, damage: Callable[[bytes], bytes], reason: str
) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(damage(audit_report.model_dump_json(indent=1).encode()))
    sentence = rf"^{path} is not a report that this version of mimia reads \({reason}\): repeat the run\.$"
    with pytest.raises(MimiaError, match=sentence):
        read_report(tmp_path)


@pytest.mark.parametrize("write", ["run", "page"])
def test_full_disk_is_told_and_leaves_no_half_written_file(
    inference_report: InferenceReport, full_disk: Path, write: str
) -> None:
    candidates = tuple(Candidate(name=500 * "x", id="", score=1, p_value=0.5, listed=True) for _ in range(300))
    large = inference_report.model_copy(update={"candidates": candidates})
    for name in FILES:
        (full_disk / name).write_text("old")
    with pytest.raises(MimiaError, match=rf"cannot be written to {full_disk} \(No space left on device\): free some"):
        write_run(full_disk, large, SCORES) if write == "run" else write_page(full_disk, large)
    kept = {path.name: path.read_text(encoding="utf-8") for path in full_disk.iterdir()}
    assert sorted(kept) == FILES
    assert kept["report.json"] == kept["report.html"] == "old"
    assert kept["settings.toml"] in ("old", large.run.settings_toml)


def test_place_that_cannot_be_written_is_told(audit_report: AuditReport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(MimiaError, match=rf"cannot be written to {directory} \(.*\): .* another directory"):
            write_run(directory, audit_report, SCORES)
    assert (tmp_path / "file").read_text() == "mine"
