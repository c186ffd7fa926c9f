"""Pictures in a report: PNG files as data URIs, and nothing that a page would fetch; which bands they show."""

import base64
import binascii
import re
from typing import Annotated

from pydantic import AfterValidator

_START = "data:image/png;base64,"
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_HEADER = 44  # characters of base64: 33 bytes, the signature and the first chunk, with width and height
_SIGNATURE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_LARGEST = 4096


def _check(uri: str) -> str:
    content = uri.removeprefix(_START)
    if not uri.startswith(_START) or len(content) % 4 or not _BASE64.fullmatch(content):
        raise ValueError("it must be a PNG file as a data URI")
    try:
        start = base64.b64decode(content[:_HEADER], validate=True)
    except binascii.Error:
        start = b""
    width, height = (int.from_bytes(start[place : place + 4], "big") for place in (16, 20))
    if not start.startswith(_SIGNATURE) or not (1 <= width <= _LARGEST and 1 <= height <= _LARGEST):
        raise ValueError(f"it must be a PNG file of {_LARGEST} pixels a side at most")
    return uri


def shown_bands(channels: int) -> tuple[int, ...]:
    """Return the bands that pictures of images show: one as grey, or three as red, green and blue.

    Of four bands these are the first three, because the fourth is most often infrared; of more, the last, the middle
    and the first, because most cameras count from short waves to long ones.

    >>> shown_bands(1), shown_bands(3), shown_bands(4), shown_bands(13)
    ((0,), (0, 1, 2), (0, 1, 2), (12, 6, 0))
    """
    if channels < 3:
        return (0,)
    return (0, 1, 2) if channels <= 4 else (channels - 1, channels // 2, 0)


def bands_note(channels: int) -> str:
    """Return a sentence on the bands that pictures show, if they do not show all.

    >>> bands_note(3), bands_note(13)
    ('', 'Pictures show the bands 13, 7 and 1 of 13 as red, green and blue.')
    """
    shown = [band + 1 for band in shown_bands(channels)]
    if len(shown) == channels:
        return ""
    if len(shown) == 1:
        return f"Pictures show the first of {channels} bands."
    red, green, blue = shown
    return f"Pictures show the bands {red}, {green} and {blue} of {channels} as red, green and blue."


Picture = Annotated[str, AfterValidator(_check)]
"""A PNG file as a data URI, as a field of a report."""
