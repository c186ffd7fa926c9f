"""Settings as a TOML file with a comment on every key."""

import textwrap
from collections.abc import Collection, Mapping
from typing import Any

import tomlkit
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tomlkit.container import Container
from tomlkit.items import Table

from mimia.config.settings import Settings
from mimia.runtime.text import MASK, masked_values

_MASKED = f"Secrets of addresses are masked ({MASK}): put them in again, or pass the address by its option."


def to_toml(settings: Settings) -> str:
    """Return settings as TOML that `read_settings` reads back; keys without a value are commented out.

    So are those of a recipe that nobody gave: a checkpoint may say them. Secrets in addresses are masked: they have to
    be typed again.

    >>> from mimia.config.settings import read_settings
    >>> print(to_toml(read_settings(None, {"target": "model.pth"})).splitlines()[1])
    target = "model.pth"
    """
    document = tomlkit.document()
    plain = settings.model_dump(mode="json", exclude_none=True)
    values = masked_values(plain)
    if values != plain:
        document.add(tomlkit.comment(_MASKED))
    tables = {name: field for name, field in Settings.model_fields.items() if _is_table(field)}
    rest = {name: field for name, field in Settings.model_fields.items() if name not in tables}
    _add(document, rest, values, rest.keys())
    for name, field in tables.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        table = tomlkit.table()
        table.comment((model.__doc__ or "").splitlines()[0])
        given = settings.recipe.model_fields_set if name == "recipe" else model.model_fields.keys()
        _add(table, model.model_fields, values[name], given)
        document.add(tomlkit.nl())
        document.add(name, table)
    return tomlkit.dumps(document)


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _add(
    target: Container | Table, fields: Mapping[str, FieldInfo], values: Mapping[str, Any], given: Collection[str]
) -> None:
    """Add keys with their values, and as comments those without one, or with one that nobody gave."""
    for name, field in fields.items():
        for line in textwrap.wrap(field.description or "", 100, break_on_hyphens=False):
            target.add(tomlkit.comment(line))
        has_value = name in values and values[name] != {}  # an empty inline table could not be extended below it
        if has_value and name in given:
            target.add(name, values[name])
        else:
            shown = f" {tomlkit.item(values[name]).as_string()}" if has_value else ""
            target.add(tomlkit.comment(f"{name} ={shown}"))
