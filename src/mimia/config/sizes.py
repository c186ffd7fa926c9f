"""Sizes of images: one number for squares, or height and width."""

from typing import Annotated, TypeAlias

from pydantic import BeforeValidator, Field

LARGEST_IMAGE = 4096
"""Side of an image in pixels."""
_Side = Annotated[int, Field(ge=1, le=LARGEST_IMAGE)]


def _parsed(value: object) -> object:
    """Return a size as it is kept: a text as its numbers, and equal sides as one number."""
    if isinstance(value, str):
        numbers = [part.strip() for part in value.lower().replace("×", "x").split("x")]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            return value
        value = [int(number) for number in numbers] if len(numbers) > 1 else int(numbers[0])
    return collapsed(tuple(value)) if isinstance(value, list | tuple) and len(value) == 2 else value


Size: TypeAlias = Annotated[_Side | tuple[_Side, _Side], BeforeValidator(_parsed)]
"""Side of squares in pixels, or height and width; also as a text such as 32 or 16x64."""


def collapsed(pair: tuple[int, int]) -> int | tuple[int, int]:
    """Return one number for two equal ones, and two others as they are."""
    return pair[0] if pair[0] == pair[1] else pair


def height_and_width(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of images of a size.

    >>> height_and_width(32), height_and_width((16, 64))
    ((32, 32), (16, 64))
    """
    return (size, size) if isinstance(size, int) else size


def sides(size: int | tuple[int, int]) -> str:
    """Return a size for a reader.

    >>> sides(32), sides((16, 64))
    ('32', '16×64')
    """
    return str(size) if isinstance(size, int) else "×".join(map(str, size))
