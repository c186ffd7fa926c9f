"""How long something takes that is done over and over."""

import time
from collections.abc import Callable

_LONG_ENOUGH, _MOST = 0.05, 20  # seconds, and calls at most


def seconds_each(call: Callable[[], object]) -> float:
    """Measure the mean time of a call, over a twentieth of a second or at least one call.

    Call it once before: the first time prepares what the others use.
    """
    started, calls = time.perf_counter(), 0
    while calls < _MOST and (not calls or time.perf_counter() - started < _LONG_ENOUGH):
        call()
        calls += 1
    return (time.perf_counter() - started) / calls
