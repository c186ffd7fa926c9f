"""The exception whose message is for the user."""

from typing import TYPE_CHECKING

from mimia.runtime.text import masked, on_one_line, shortened

if TYPE_CHECKING:
    from pydantic import ValidationError


class MimiaError(Exception):
    """Bad input or a bad environment, in one sentence that says what is wrong and how to mend it.

    The command line prints it without a traceback and exits with code 2. Secrets in addresses are masked.
    """

    def __init__(self, message: object) -> None:
        super().__init__(on_one_line(masked(str(message))))


def first_mistake(error: "ValidationError") -> str:
    """Return the first mistake that pydantic found, as ``KEY: REASON`` and without the value itself."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = shortened(".".join(str(part) for part in first["loc"]), 60)
    return ": ".join(filter(None, (where, shortened(first["msg"].removeprefix("Value error, "), 140))))
