"""Locks between processes that say who holds them."""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from mimia.runtime.progress import say

_PATIENCE = 3.0  # seconds of waiting without a word


@contextmanager
def holding(path: Path, what: str) -> Iterator[None]:
    """Hold a lock in a block; say once who has it, if it is not free soon.

    The system frees the lock of a process that has ended, however it ended.

    Args:
        path: File of the lock.
        what: What it guards, for the message.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        say(f"Waiting for {what}, which {_holder(path)} is making: this goes on when that is done or stopped.")
        lock.acquire()
    facts = _facts(path)
    try:
        with suppress(OSError):  # a full disk is told where it matters
            facts.write_text(json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": _now()}))
        yield
    finally:
        with suppress(OSError):
            facts.unlink(missing_ok=True)
        lock.release()


def try_hold(path: Path) -> FileLock | None:
    """Return a lock that is held now, to be released, or None if another process has it."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _holder(path: Path) -> str:
    try:
        facts = json.loads(_facts(path).read_bytes())
        return f"process {facts['process']} on {facts['host']} (since {facts['since']})"
    except (OSError, ValueError, LookupError, TypeError):
        return "another process"


def _facts(path: Path) -> Path:
    return path.with_suffix(".holder")


def _now() -> str:
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S")
