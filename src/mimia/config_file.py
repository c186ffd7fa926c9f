"""Settings as a TOML file with a comment on every key."""

import json
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mimia.config import Settings

_WIDTH = 100


def to_toml(settings: Settings) -> str:
    """Write settings so that `read_settings` reads the same; what is not set stands as a comment.

    >>> from mimia.config import read_settings
    >>> print(to_toml(read_settings(None, {"target": "model.pth"})).splitlines()[1])
    target = "model.pth"
    """
    lines: list[str] = []
    tables: list[tuple[str, BaseModel]] = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            tables.append((name, value))
        else:
            lines += _entry(name, field, value)
    for name, table in tables:
        lines += ["", f"[{name}]  # {(type(table).__doc__ or '').splitlines()[0]}"]
        for key, field in type(table).model_fields.items():
            lines += _entry(key, field, getattr(table, key))
    return "\n".join(lines) + "\n"


def _entry(name: str, field: FieldInfo, value: Any) -> list[str]:
    comment = [f"# {line}" for line in _wrapped(field.description or "")]
    if value is None:
        return [*comment, f"# {name} ="]
    text = json.dumps(value, default=str, ensure_ascii=False)
    text = text.replace("\x7f", "\\u007f")  # the one character that JSON allows and TOML does not
    return [*comment, f"{name} = {text}"]


def _wrapped(text: str) -> list[str]:
    import textwrap

    return textwrap.wrap(text, _WIDTH)
