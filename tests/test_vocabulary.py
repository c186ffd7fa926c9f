"""No module, class, function, argument, setting or JSON key has a name of the first edition's private language."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from mimia.config.recipes import Recipe
from mimia.config.settings import Settings
from mimia.report.schema import REPORT_FORMAT
from mimia.signals.registry import SIGNALS

SOURCE = Path(__file__).parents[1] / "src" / "mimia"
OLD_NAMES = {
    *("adopted", "apart", "Apart", "area", "areas", "ask", "asking", "Asking", "asks", "Base", "batches"),
    *("Bavaria", "Bench", "bench", "blank", "corrected", "encoders", "Evidence"),
    *("evidence", "examine", "Facts", "gate", "judged", "Kind", "KINDS", "kinds", "known", "Known"),
    *("lender", "lenders", "Lira", "measure", "measured", "Measured", "measures", "Needs", "n_known", "Offer", "offer"),
    *("opened", "Opened", "opening", "per_image", "play", "Played", "played", "question", "questions", "Reading"),
    *("Reconstructor", "Rmia", "sanity", "scoring", "share", "shares", "Shadows", "Subject", "subject", "subjects"),
    *("surroundings", "twins", "Twins", "Wanted", "wrapped", "Wrapped", "ratios"),
}
OLD_MODULES = {
    *("bench", "measuring", "record", "gate", "kinds", "parts", "views", "contents", "measures"),
    *("sanity", "batches", "scoring", "opening", "reading", "adopted", "wrapped", "per_image", "facts"),
    *("statistics", "encoders", "images", "plan", "speed"),
}
OLD_SIGNALS = {"distances", "surroundings", "parts", "similarities", "ratios", "views", "statistics", "predictability"}


def identifiers(tree: ast.Module) -> Iterator[str]:
    """Return what a module defines or passes by name; local variables may have any name."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name
            case ast.Attribute(attr=name, ctx=ast.Store()):
                yield name
    scopes: list[ast.Module | ast.ClassDef] = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    for scope in (tree, *scopes):
        for statement in scope.body:
            targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_code_speaks_the_words_of_the_field(path: Path) -> None:
    assert path.stem not in OLD_MODULES
    assert not OLD_NAMES & {name.lstrip("_") for name in identifiers(ast.parse(path.read_text()))}


def test_settings_speak_the_words_of_the_field() -> None:
    def fields(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield name
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from fields(field.annotation)

    assert not OLD_NAMES & {*fields(Settings), *fields(Recipe)}
    assert not OLD_SIGNALS & set(SIGNALS)


def test_reports_speak_the_words_of_the_field() -> None:
    def keys(schema: object) -> Iterator[str]:
        if isinstance(schema, dict):
            yield from schema.get("properties", {})
            for value in schema.values():
                yield from keys(value)
        elif isinstance(schema, list):
            for value in schema:
                yield from keys(value)

    assert not OLD_NAMES & set(keys(REPORT_FORMAT.json_schema()))


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_docstrings_begin_with_a_plain_verb(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            text = ast.get_docstring(node) or ""
            assert not text.startswith(("Give ", "Tell ", "Say ", "Let ")), f"{path.name}: {node.name}: {text[:60]}"
