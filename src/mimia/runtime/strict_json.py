"""JSON that anybody may have written: bounded in size, depth and numbers, and nothing in it is ambiguous.

Every file in JSON that mimia reads goes through here.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

MEBIBYTE = 1 << 20
_MOST_VALUES = 10_000_000  # by the commas and brackets; each takes some 100 bytes of memory
_DEEPEST = 64
_LONGEST_INTEGER = 20  # digits: 64 bits
_LONGEST_NUMBER = 400  # characters: the largest double, written out


def read_json(path: Path, largest: int = 16 * MEBIBYTE) -> Any:
    """Return the content of a JSON file.

    Args:
        path: The file.
        largest: Number of its bytes at most.

    Raises:
        MimiaError: It cannot be read, is too large, or is refused by `parse_json`.
    """
    try:
        with path.open("rb") as file:
            return parse_json(file.read(largest + 1), largest)
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise MimiaError(f"{path} cannot be read as JSON ({reason}): copy it again.") from error


def read_object(path: Path, largest: int = 16 * MEBIBYTE) -> dict[str, Any]:
    """Return the content of a JSON file that has to be an object.

    Raises:
        MimiaError: It holds another value, or as for `read_json`.
    """
    content = read_json(path, largest)
    if not isinstance(content, dict):
        raise MimiaError(f"{path} holds no JSON object: copy it again.")
    return content


def parse_json(text: str | bytes, largest: int = 16 * MEBIBYTE) -> Any:
    """Return the value of a JSON text.

    Args:
        text: Bytes are UTF-8.
        largest: Its length at most.

    Raises:
        ValueError: It is no JSON, is nested too deeply, has too many values, a key twice, half a character, or a number
            that is NaN, infinite or of more than 64 bits. The message is short.

    >>> parse_json('{"a": [1, 2.5]}')
    {'a': [1, 2.5]}
    """
    if len(text) > largest:
        raise ValueError(f"it has more than {largest // MEBIBYTE} MiB")
    if isinstance(text, bytes):
        text = text.decode("utf-8-sig")
    if sum(text.count(mark) for mark in ",[{") > _MOST_VALUES:
        raise ValueError(f"it has more than {_MOST_VALUES:,} values")
    try:
        value = json.loads(
            text,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_refuse_constant,
            object_pairs_hook=_object,
        )
        _check(value)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    return value


def _integer(text: str) -> int:
    if len(text) > _LONGEST_INTEGER or abs(number := int(text)) >= 2**64:
        raise ValueError(f"{shortened(text, 20)} is no number of 64 bits")
    return number


def _number(text: str) -> float:
    if len(text) > _LONGEST_NUMBER or not math.isfinite(number := float(text)):
        raise ValueError(f"{shortened(text, 20)} is no finite number")
    return number


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {shortened(ascii(key), 40)} stands twice")
        found[key] = value
    return found


def _check(value: Any) -> None:
    """Raise if a value is nested too deeply, or a text in it is no Unicode."""
    level = [value]
    for _ in range(_DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return
    raise ValueError(f"it is nested more than {_DEEPEST} levels deep")


def _inside(value: Any) -> Iterator[Any]:
    """Yield what is to be checked within a value."""
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from (each for each in value if isinstance(each, dict | list | str))
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it has half of a surrogate pair") from None
