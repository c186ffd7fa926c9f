"""Errors of disks in sentences, whichever library raised them."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NUMBERED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")  # as safetensors and shutil have it
_CUT_OFF = re.compile(r"requested and \d+ written|PytorchStreamWriter")  # as numpy and torch have it
_PROBE = 1 << 16  # bytes that are written to learn why a library could not write
_SENTENCES = {
    errno.ENOSPC: "The disk of {place} is full: free some space and run the same command again, or {remedy}.",
    errno.EDQUOT: "The disk of {place} is full, by its quota: free some space and run the same command again, or "
    "{remedy}.",
    errno.EFBIG: "A file of {place} is larger than its disk or the limit of this process (ulimit -f) allows: raise "
    "that, or {remedy}.",
    errno.EROFS: "{place} is on a read-only disk: {remedy}.",
    errno.EACCES: "The permissions of {file} do not let this user in: change them, or {remedy}.",
    errno.EPERM: "The permissions of {file} do not let this user in: change them, or {remedy}.",
    errno.ENOENT: "{file} is not there: see that it is spelled as it is on the disk, or {remedy}.",
    errno.EISDIR: "{file} is a directory, and a file is needed there: move it away, or {remedy}.",
    errno.ENOTDIR: "{file} is a file, or lies within one, and a directory is needed there: move it away, or {remedy}.",
    errno.EEXIST: "{file} is in the way of a directory: move it away, or {remedy}.",
    errno.ENOTEMPTY: "{file} is not empty: move it away, or {remedy}.",
    errno.ENAMETOOLONG: "{file} has too long a name for its disk: {remedy}.",
    errno.ELOOP: "{file} is a link that leads to itself: delete it, or {remedy}.",
    errno.EIO: "The disk of {place} reports an error on {file}: it may be failing; see to it, or {remedy}.",
    errno.ESTALE: "The network disk of {place} has lost {file}: mount it again and run the same command again.",
    errno.EMFILE: "Too many files are open: raise the limit with `ulimit -n 4096`, and run the same command again.",
    errno.ENFILE: "Too many files are open on this machine: close other programs, and run the same command again.",
    errno.ENOMEM: "This machine has no memory left: close other programs, and run the same command again.",
}
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
"""Errors that come without the name of a file when it is open already."""
_LONGEST = 160  # characters of a path in a sentence


def disk_sentence(error: OSError, place: str, remedy: str) -> str:
    """Return what is wrong and how to mend it.

    Args:
        error: What the system said.
        place: What is written or read, such as ``the store /data/mimia``.
        remedy: What to do instead, such as ``name another place``.

    >>> disk_sentence(OSError(errno.EROFS, "", "/cdrom/x"), "the report", "name another place")
    'The report is on a read-only disk: name another place.'
    """
    known = _SENTENCES.get(error.errno or 0)
    name = error.filename2 or error.filename  # where something is moved to, rather than from where
    file = place if name is None else _shortened(str(name))
    if known is None:
        reason = str(error.strerror or error).replace("{", "").replace("}", "")
        known = f"The system refused {{file}} ({reason}): see that it can be read and written, or {{remedy}}."
    text = known.format(place=_shortened(place), file=file, remedy=remedy)
    return text[:1].upper() + text[1:] if text.startswith("the ") else text


def as_disk_error(error: BaseException, directory: Path) -> OSError | None:
    """Return the error of the system that an exception is or hides; None if it has to do with no disk.

    Libraries have errors of their own for a full disk, and many do not say so: whether a little more can be written
    decides.

    Args:
        error: What a library raised as it wrote.
        directory: Where it wrote.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error
    if numbered := _NUMBERED.search(str(error)):
        number = int(numbered[1] or numbered[2])
    else:
        number = _why_not_writable(directory) or (errno.ENOSPC if _CUT_OFF.search(str(error)) else 0)
    return OSError(number, os.strerror(number), str(directory)) if number else None


@contextmanager
def clear_disk_errors(path: Path) -> Iterator[None]:
    """Raise what a library raises when it cannot write a file or directory as the error of the system behind it.

    Raises:
        OSError: It was one of a disk, whatever the library made of it.
    """
    try:
        yield
    except Exception as error:
        hidden = as_disk_error(error, path.parent)
        if hidden is None:
            raise
        if hidden is error and (hidden.filename is not None or hidden.errno not in _OF_THE_DISK):
            raise  # as clear as it gets
        raise OSError(hidden.errno, hidden.strerror, str(path)) from error


def concerns(error: OSError, directory: Path) -> bool:
    """Return whether an error is about a file in a directory, or about a disk of which it does not say which."""
    if error.filename is None:
        return error.errno in _OF_THE_DISK
    files = (os.fsdecode(file) for file in (error.filename, error.filename2) if isinstance(file, str | bytes))
    return any(Path(file).absolute().is_relative_to(directory.absolute()) for file in files)


def _why_not_writable(directory: Path) -> int:
    """Return the number of the error with which a little more cannot be written, or 0 if it can."""
    probe = directory / f"probe-{os.getpid()}.partial"
    try:
        probe.write_bytes(bytes(_PROBE))
    except OSError as error:
        return error.errno if error.errno in _OF_THE_DISK else 0
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return 0


def _shortened(text: str) -> str:
    """Return a text of which the middle is left out if it is long."""
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]}…{text[-half:]}"
