"""What the documentation shows is rendered from the results that are kept beside it."""

from pathlib import Path

from mimia.experiments.runner import render

ROOT = Path(__file__).resolve().parents[2]


def test_tables_and_figures_of_the_documentation_are_those_of_the_results(tmp_path: Path) -> None:
    shown = ROOT / "docs" / "comparison"
    rendered = {path.name: path.read_bytes() for path in render("attacks", "mini", ROOT / "results", tmp_path)}
    assert {path.name: path.read_bytes() for path in shown.iterdir()} == rendered, (
        "render them anew: mimia reproduce attacks --pages docs/comparison"
    )


def test_every_table_and_figure_stands_on_the_page() -> None:
    page = (ROOT / "docs" / "attacks.md").read_text()
    assert [
        path.name for path in (ROOT / "docs" / "comparison").iterdir() if f"comparison/{path.name}" not in page
    ] == []
