"""What the command line does when the system asks it to end (SIGTERM)."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from mimia.runtime.interruption import Stopped, forget_request, request_stop

EXIT_CODE = 128 + signal.SIGTERM
FAREWELL = "\nStopped by SIGTERM: the same command continues where it stopped.\n"
_TO_SAVE = 3.0  # seconds that a loop has to save its state
_TO_END = 4.5  # seconds until the process ends, whatever it does: artifacts are whole at any moment


@contextmanager
def ending_when_told() -> Iterator[None]:
    """Raise `Stopped` in the block when the system asks the process to end.

    Python runs no handler while a library computes, so a thread ends the process if that takes too long.
    """
    if sys.platform == "win32" or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    ended = threading.Event()
    handlers = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, _on_request),
        signal.SIGALRM: signal.signal(signal.SIGALRM, _on_timeout),
    }
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=(reader, ended), daemon=True).start()
    try:
        yield
    finally:
        ended.set()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.set_wakeup_fd(before)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        os.close(writer)
        forget_request()


def _on_request(*_: object) -> None:
    signal.setitimer(signal.ITIMER_REAL, _TO_SAVE)
    request_stop()


def _on_timeout(*_: object) -> None:
    raise Stopped


def _watch(reader: int, ended: threading.Event) -> None:
    """Wait for the signal, or for the end of the block, which closes the pipe."""
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while received := pipe.read(64):
            if signal.SIGTERM in received and not ended.wait(_TO_END):
                os.write(2, FAREWELL.encode())
                os._exit(EXIT_CODE)
