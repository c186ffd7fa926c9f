"""What the documentation shows is rendered from the results that are kept beside it."""

from pathlib import Path

import pytest

from mimia.experiments.registry import EXPERIMENTS
from mimia.experiments.runner import render

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OF_THEIR_OWN = {"attacks": ("attacks.md", "comparison"), "defences": ("defences.md", "defences")}
SHOWN = [name for name in EXPERIMENTS if (ROOT / "results" / "mini" / name).is_dir()]


def place_of(name: str) -> tuple[Path, str]:
    """Give the page that shows an experiment, and the folder of its tables and figures."""
    page, folder = OF_THEIR_OWN.get(name, ("paper.md", f"paper/{name}"))
    return DOCS / page, folder


@pytest.mark.parametrize("name", SHOWN)
def test_tables_and_figures_of_the_documentation_are_those_of_the_results(name: str, tmp_path: Path) -> None:
    _, folder = place_of(name)
    rendered = {path.name: path.read_bytes() for path in render(name, "mini", ROOT / "results", tmp_path)}
    assert {path.name: path.read_bytes() for path in (DOCS / folder).iterdir()} == rendered, (
        f"render them anew: mimia reproduce {name} --profile mini --pages docs/{folder}"
    )


@pytest.mark.parametrize("name", SHOWN)
def test_every_table_and_figure_stands_on_its_page(name: str) -> None:
    page, folder = place_of(name)
    text = page.read_text()
    assert [path.name for path in (DOCS / folder).iterdir() if f"{folder}/{path.name}" not in text] == []


def test_no_table_or_figure_is_without_results() -> None:
    folders = {place_of(name)[1] for name in SHOWN}
    paper = DOCS / "paper"
    assert {f"paper/{path.name}" for path in paper.iterdir() if path.is_dir()} <= folders if paper.is_dir() else True
