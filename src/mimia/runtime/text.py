"""Text that strangers or secrets have a part in: shortened, masked, and safe in a table."""

import math
import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
"""What stands for a secret."""
_SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]{0,20}://")
_ADDRESS = re.compile(r"(?P<scheme>\b[a-zA-Z][a-zA-Z0-9+.-]{0,20}://)(?P<rest>[^\s'\"<>`]*)")
_CREDENTIALS = re.compile(r"[^\s/:@'\"(“”]+:[^\s/@'\"“”]+@(?=[\w\[*])")  # also where the address is mistyped
_AROUND = ".,:;!?)]}”…"  # of the sentence that an address stands in
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_AUTHORITY = re.compile(r"[^/?#]*")
_PARAMETER = re.compile(r"(?P<key>[^&;=]*)(?P<equals>=?)(?P<value>[^&;]*)")
_PATH_PARAMETER = re.compile(r"(;[^;/=]*=)[^;/]*")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: wide ones
_QUOTE = "'"


def shortened(text: str, longest: int = 80) -> str:
    """Return a text with its middle left out if it is long.

    >>> shortened("short"), len(shortened("x" * 100_000))
    ('short', 80)
    """
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[-half:]}"


def duration(seconds: float) -> str:
    """Return a time in words, rounded up.

    >>> duration(4.2), duration(59.9), duration(200), duration(9000)
    ('5 seconds', '1 minute', '4 minutes', '2.5 hours')
    """
    whole = math.ceil(seconds)
    minutes = math.ceil(seconds / 60)
    if whole < 60:
        return "1 second" if whole <= 1 else f"{whole} seconds"
    if minutes < 120:
        return "1 minute" if minutes == 1 else f"{minutes} minutes"
    return f"{seconds / 3600:.1f} hours"


def on_one_line(text: str) -> str:
    """Return a text without control characters, which could move the cursor of a terminal.

    >>> on_one_line("a" + chr(10) + "b")
    'a b'
    """
    return _CONTROL.sub(" ", text)


def masked(text: str) -> str:
    """Return a text with the secrets of the addresses in it replaced: user and password, values of a query, fragments.

    >>> masked("No answer from https://me:pass@host/v1?model=a&token=b#c.")
    'No answer from https://***@host/v1?model=***&token=***#***.'
    >>> masked("s3://key:sec/ret@bucket/mimia and s3://bucket/mimia")
    's3://***@bucket/mimia and s3://bucket/mimia'
    """
    text = _CREDENTIALS.sub(f"{MASK}@", text) if "@" in text else text
    if "://" not in text:
        return text
    return _ADDRESS.sub(_masked_match, text)


def _masked_match(found: "re.Match[str]") -> str:
    address = found["rest"].rstrip(_AROUND)
    return found["scheme"] + _without_secrets(address) + found["rest"][len(address) :]


def masked_address(text: str) -> str:
    """Return an address as `masked` does, whatever characters its secrets have; any other text likewise.

    >>> masked_address("https://me:pass word@host/v1"), masked_address("images/")
    ('https://***@host/v1', 'images/')
    """
    found = _SCHEME.match(text)
    return masked(text) if found is None else found[0] + _without_secrets(text[found.end() :])


def _without_secrets(address: str) -> str:
    authority = _AUTHORITY.match(address)
    assert authority is not None, "it matches the empty text too"
    host, rest = authority[0], address[authority.end() :]
    before, colon, after = host.partition(":")
    if "@" in host:
        host = f"{MASK}@{host.rpartition('@')[2]}"
    elif colon and not after.isdecimal() and "@" in rest and not before.startswith("["):
        host, rest = f"{MASK}@", rest.rpartition("@")[2]  # a password with a slash, which keys of S3 have
    rest, has_fragment, _ = rest.partition("#")
    path, has_query, query = rest.partition("?")
    path = _PATH_PARAMETER.sub(rf"\1{MASK}", path)
    query = _PARAMETER.sub(_masked_parameter, query)
    return f"{host}{path}{has_query}{query}{f'#{MASK}' if has_fragment else ''}"


def _masked_parameter(found: "re.Match[str]") -> str:
    if found["equals"]:
        return f"{found['key']}={MASK if found['value'] else ''}"
    return MASK if found["key"] else ""


def masked_values(value: Any) -> Any:
    """Return JSON values with the secrets of all addresses masked.

    >>> masked_values({"store": "s3://key:secret@bucket", "sizes": [1, "b"]})
    {'store': 's3://***@bucket', 'sizes': [1, 'b']}
    """
    if isinstance(value, str):
        return masked_address(value)
    if isinstance(value, Mapping):
        return {key: masked_values(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(masked_values(each) for each in value)
    return value


def to_cell(value: object) -> object:
    """Return a cell of a CSV file that no spreadsheet takes for a formula: such a text gets a ``'`` in front.

    So does a text that begins with ``'``; `from_cell` takes it away. Numbers stay as they are.

    >>> to_cell("=cmd|' /C calc'!A0"), to_cell("image.png"), to_cell(-1.5)
    ("'=cmd|' /C calc'!A0", 'image.png', -1.5)
    """
    return _QUOTE + value if isinstance(value, str) and value.startswith((*_FORMULA, _QUOTE)) else value


def from_cell(text: str) -> str:
    """Return the text that `to_cell` made a cell of.

    >>> from_cell(str(to_cell("=1+1"))), from_cell("image.png")
    ('=1+1', 'image.png')
    """
    return text.removeprefix(_QUOTE)
