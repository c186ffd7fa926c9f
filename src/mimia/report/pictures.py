"""Pictures in a report: PNG files as data URIs, and nothing that a page would fetch."""

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


Picture = Annotated[str, AfterValidator(_check)]
"""A PNG file as a data URI, as a field of a report."""
