"""Reports in bad faith: each ends in one sentence, or in a page that fetches and runs nothing."""

import base64
import csv
import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.report.files import read_report, write_page, write_run
from mimia.report.html import render_report
from mimia.runtime.text import from_cell

CORPUS = Path(__file__).with_name("corpus") / "report"
WRITTEN = CORPUS / "audit-4.json"
NAN, INFINITE = float("nan"), float("inf")
START = "data:image/png;base64,"


def each(key: str, *values: object) -> list[tuple[str, object]]:
    return [(key, value) for value in values]


def png(width: int, height: int) -> str:
    """Return the start of a PNG file of a size."""
    return (
        START
        + base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + bytes(12)).decode()
    )


REFUSED: list[tuple[str, object]] = [
    *each("evaluations.0.auc.value", NAN, INFINITE, 1e300, "x", {}),
    *each("evaluations.0.auc.low", None, 2.0),
    *each("evaluations.0.auc", None, []),
    *each("evaluations.0.fpr", [], [0.0], [NAN] * 3, [2.0] * 3),
    *each("evaluations.0.p_value", NAN, 7.0),
    *each("evaluations.0.attack", 7, "x" * 100_000, None),
    *each("evaluations", [], None, {}, [[]] * 1000),
    *each("deciding", "none", 7, "x" * 100_000),
    *each("comparisons", [], {"a": 1}),
    *each("validity.blind", [], 7)[1:],
    *each("validity.controls", 7, [{}]),
    *each("validity.reconstruction", NAN, "x"),
    *each("epsilon.value", NAN, INFINITE, None),
    *each("verdict.kind", "perhaps", 7),
    *each("verdict.strength", "slight", "fatal"),
    *each("verdict.checks", 7, [{"name": "x"}]),
    *each("run.models", [], 7, [{}]),
    *each("run.models.0.losses", [NAN], [INFINITE], ["x"]),
    *each("run.models.0.privacy", {"epsilon": NAN}, {}),
    *each("run.models.0.seconds", NAN),
    *each("run.image_shape", [1, 8], [0, 0, 0], [1, -8, 8]),
    *each("run.counts", {}, {"non-members": 0}, {"non-members": -5}, {"non-members": "x"}),
    *each("run.versions", {}, [], {"python": "3"}),
    *each("run.histograms.0.edges", [], [0.0], [1.0, 0.0], [NAN, 1.0]),
    *each("run.histograms.0.counts", {"members": []}, {"members": [1, 2]}, {"members": [-1] * 40}),
    *each("run.histograms.0.threshold", NAN, 1e300),
    *each("run.seconds", NAN, "soon"),
    *each("run.settings_toml", None, 7),
    *each(
        "run.gallery.0.original",
        "http://127.0.0.1:8008/picture.png",
        "file:///etc/passwd",
        "//host/picture.png",
        "picture.png",
        "javascript:alert(1)",
        "data:image/svg+xml;base64,PHN2Zy8+",
        "data:text/html;base64,PHN2Zy8+",
        START,
        START + "x",
        START + "AAAA",
        f'{START}AAAA" onerror=alert(1)',
        png(0, 8),
        png(100_000, 100_000),
        None,
        7,
    ),
    *each("run.gallery.0.score", NAN),
    *each("near_duplicates", [{"names": ["a", "b"], "pictures": ["http://a/b.png", png(8, 8)]}]),
    *each("kind", "inference", 7, None),
    *each("schema_version", 1, 2, 3.5, 99, True, "4", None, 10**18),
    *each("more", 1),
    *each("run.more", 1),
]


def spoilt(directory: Path, key: str, value: object) -> Path:
    content = json.loads(WRITTEN.read_text(encoding="utf-8"))
    place: Any = content
    *tables, last = (int(part) if part.isdecimal() else part for part in key.split("."))
    for part in tables:
        place = place[part]
    place[last] = value
    (directory / "report.json").write_text(json.dumps(content))
    return directory


@pytest.mark.parametrize(("key", "value"), REFUSED, ids=lambda case: repr(case)[:40])
def test_report_that_contradicts_itself_is_refused(
    tmp_path: Path, refused: Callable[..., Any], key: str, value: object
) -> None:
    with refused():
        read_report(spoilt(tmp_path, key, value))


def required(content: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the paths of all keys and entries of JSON values."""
    inner = (
        content.items() if isinstance(content, dict) else enumerate(content[:1]) if isinstance(content, list) else ()
    )
    return [found for key, value in inner for found in ((*path, key), *required(value, (*path, key)))]


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, [], {}, "", 7, -1.5, True], ids=repr)
def test_any_part_may_be_replaced_or_left_out(tmp_path: Path, refused: Callable[..., Any], value: object) -> None:
    """Each ends in one sentence, or in a page."""
    content = json.loads(WRITTEN.read_text(encoding="utf-8"))
    for path in required(content):
        changed = json.loads(json.dumps(content))
        place = changed
        for key in path[:-1]:
            place = place[key]
        if value is None:
            del place[path[-1]]
        else:
            place[path[-1]] = value
        (tmp_path / "report.json").write_text(json.dumps(changed))
        try:
            report = read_report(tmp_path)
        except Exception:
            with refused():
                read_report(tmp_path)
        else:
            render_report(report)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"7", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000])
def test_text_that_is_no_report_is_refused(tmp_path: Path, refused: Callable[..., Any], content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with refused():
        read_report(tmp_path)


def test_report_with_a_hole_of_40_gib_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with (tmp_path / "report.json").open("wb") as file:
        file.truncate(40 << 30)
    with refused("128 MiB"):
        read_report(tmp_path)


def test_command_ends_in_one_sentence(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["report", str(spoilt(tmp_path, "run.models", []))])
    assert str(result.exception).endswith("(run.models is empty): repeat the run.")


TEXTS = [
    r"$\frac{$",
    "$$",
    "$x$",
    r"\$",
    "_hidden",
    "a\nb",
    "x" * 10_000,
    "\x00\x1b[31m",
    "<script>alert(1)</script>",
    "猫",
    "",
]


@pytest.mark.filterwarnings("ignore:Glyph|No artists|.*missing from font")
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text)[:20])
def test_any_text_is_shown_in_a_figure(tmp_path: Path, text: str) -> None:
    content = json.loads(WRITTEN.read_text(encoding="utf-8"))
    content["run"]["histograms"][0] |= {"quantity": text, "attack": text}
    counts = content["run"]["histograms"][0]["counts"]
    counts[text] = next(iter(counts.values()))
    content["run"]["models"][0]["name"] = text
    content["evaluations"][0]["attack"] = content["deciding"] = text[:200]
    (tmp_path / "report.json").write_text(json.dumps(content))
    page = write_page(tmp_path, read_report(tmp_path)).read_text(encoding="utf-8")
    assert "<script" not in page


@pytest.fixture(scope="module")
def tab() -> Any:
    executable = shutil.which("chromium") or shutil.which("google-chrome")
    if executable is None:
        pytest.skip("there is no browser")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--headless", "--no-sandbox"])
        yield browser.new_page()
        browser.close()


SMUGGLED = (
    '<img src="http://127.0.0.1:8008/a.png"><img src="file:///etc/hostname"><script>document.title = "ran"</script>'
    '<link rel="stylesheet" href="http://127.0.0.1:8008/a.css"><iframe src="http://127.0.0.1:8008/"></iframe>'
    '<form action="http://127.0.0.1:8008/"><input type="submit"></form><img src="x" onerror="document.title = \'ran\'">'
)


def test_page_fetches_and_runs_nothing_whatever_gets_into_it(tmp_path: Path, tab: Page) -> None:
    page = render_report(read_report(WRITTEN))
    (tmp_path / "page.html").write_text(page.replace("<main>", f"<main>{SMUGGLED}"), encoding="utf-8")
    asked: list[str] = []
    tab.on("requestfinished", lambda request: asked.append(request.url))
    tab.goto((tmp_path / "page.html").as_uri())
    assert [url for url in asked if not url.startswith(("data:", (tmp_path / "page.html").as_uri()))] == []
    assert tab.title().startswith("mimia:")
    shown = tab.evaluate("[...document.images].filter(image => image.naturalWidth).map(image => image.src.slice(0, 5))")
    assert set(shown) == {"data:"}


def test_cells_of_the_scores_are_no_formulas(tmp_path: Path) -> None:
    names = ["=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(1)", "\t=1", "\r=1", "'=1", "plain.png", "-", ""]
    scores: dict[str, list[Any]] = {"name": names, "=1+1 score": [-1.5] * len(names)}
    directory = write_run(tmp_path / "run", read_report(WRITTEN), scores).parent
    with (directory / "scores.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["name", "'=1+1 score"]
    assert [from_cell(row[0]) for row in rows] == names
    assert {row[0][:1] for row in rows} <= {"'", "p", ""}
    assert [float(row[1]) for row in rows] == [-1.5] * len(names)
