"""End a run that is asked to stop: at once, or in a loop as soon as its state is saved."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Stopped(BaseException):
    """The process is asked to end; no error, so that nothing handles it on the way out."""


@dataclass
class _Request:
    """Whether the process is asked to end, and how many loops save their state before they do."""

    made: bool = False
    saving_loops: int = 0


_request = _Request()


def request_stop() -> bool:
    """Ask the process to end.

    Returns:
        Whether a loop ends it, once it has saved its state.

    Raises:
        Stopped: No loop does.
    """
    _request.made = True
    if not _request.saving_loops:
        raise Stopped
    return True


def forget_request() -> None:
    """Withdraw what `request_stop` asked for."""
    _request.made = False


@contextmanager
def saving_before_stop() -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether the process is asked to end, which the block asks often.

    If it is, the block saves its state and raises `Stopped`.
    """
    _request.saving_loops += 1
    try:
        yield lambda: _request.made
    finally:
        _request.saving_loops -= 1
