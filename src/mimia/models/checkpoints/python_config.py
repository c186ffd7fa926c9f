"""Configurations of open-mmlab, which are Python: read as data, and never run."""

import ast
from collections.abc import Iterable
from typing import Any

_LONGEST = 1 << 20  # characters
_UNREADABLE = object()


def parse_python_config(text: str) -> dict[str, Any]:
    r"""Return the values that a text assigns to names: literals, calls of ``dict``, products and quotients.

    Whatever else stands in it is left out; of a text that is no Python, nothing is left.

    >>> parse_python_config("model = dict(type='MAE', head=dict(norm_pix=True))\nlr = 1.5e-4 * 4096 / 256\nopen('x')")
    {'model': {'type': 'MAE', 'head': {'norm_pix': True}}, 'lr': 0.0024}
    """
    if len(text) > _LONGEST:
        return {}
    try:
        statements = ast.parse(text).body
        found = {
            each.targets[0].id: _value(each.value)
            for each in statements
            if isinstance(each, ast.Assign) and isinstance(each.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError):
        return {}
    return {name: value for name, value in found.items() if value is not _UNREADABLE}


def _value(node: ast.expr | None) -> Any:
    """Return the value of an expression; readable parts of a table or list with others."""
    match node:
        case ast.Constant(value):
            return value
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _table((each.arg, each.value) for each in keywords)
        case ast.Dict(keys=keys, values=values):
            return _table(zip(map(_value, keys), values, strict=True))
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [value for value in map(_value, items) if value is not _UNREADABLE]
        case ast.BinOp(left=left, op=ast.Mult() | ast.Div() as sign, right=right):
            return _computed(_value(left), _value(right), is_product=isinstance(sign, ast.Mult))
    return _UNREADABLE


def _table(entries: Iterable[tuple[Any, ast.expr]]) -> dict[str, Any]:
    values = ((name, _value(node)) for name, node in entries)
    return {name: value for name, value in values if isinstance(name, str) and value is not _UNREADABLE}


def _computed(left: object, right: object, *, is_product: bool) -> object:
    if not (isinstance(left, int | float) and isinstance(right, int | float)):
        return _UNREADABLE
    if is_product:
        return float(left) * float(right)
    return float(left) / float(right) if right else _UNREADABLE
