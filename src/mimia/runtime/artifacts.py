"""What makes an artifact whole: a record with the size and checksum of each of its files.

The checksum is XXH3 (128 bits), which is as fast as memory: it finds what disks, copies and networks do to files. It
does not keep anybody from changing them on purpose.
"""

import errno
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

import xxhash

RECORD = "artifact.json"
"""Written last: its presence says that an artifact is complete."""
_BLOCK = 1 << 20  # bytes that are read at once
_UNREADABLE = (
    *(ValueError, LookupError, TypeError, AttributeError, RecursionError),
    *(FileNotFoundError, IsADirectoryError, NotADirectoryError),
)
"""What a damaged record raises when it is read."""
_verified: dict[str, dict[str, tuple[int, ...]]] = {}
"""State of the files of each artifact that was found whole in this process, by its path."""


def checksum(path: Path) -> str:
    """Return the checksum of a file, 32 hexadecimal digits."""
    digest = xxhash.xxh3_128()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def write_record(directory: Path, kind: str, settings: Mapping[str, Any]) -> None:
    """Complete an artifact: write what it was made from, and size and checksum of each of its files."""
    record = {
        "name": _name(directory),
        "kind": kind,
        "settings": settings,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {
            name: {"bytes": (directory / name).stat().st_size, "xxh3": checksum(directory / name)}
            for name in sorted(_state(directory))
        },
    }
    (directory / RECORD).write_text(json.dumps(record | {"checksum": _own_checksum(record)}, indent=1))
    _verified[str(directory)] = _state(directory)


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record of an artifact, or None if it is missing or damaged."""
    try:
        record = json.loads(path.read_bytes())
        right = record.pop("checksum") == _own_checksum(record)
    except _UNREADABLE:
        return None
    return record if right else None


def is_of_old_version(path: Path) -> bool:
    """Return whether a record was written before records had checksums; such artifacts are not used any more."""
    try:
        return set(json.loads(path.read_bytes())) == {"kind", "settings"}
    except (*_UNREADABLE, OSError):
        return False


def damage(directory: Path) -> str | None:
    """Return what is wrong with an artifact, or None if it is as it was written.

    Its files are read on the first call in a process, and again only when the system says that they have changed.

    Raises:
        PermissionError: A file may not be read.
    """
    key = str(directory)
    if not directory.is_dir():
        return "is no directory"
    state = _state(directory)
    if _verified.get(key) == state:
        return None
    if not os.path.lexists(directory / RECORD):
        return f"has no {RECORD}"
    record = read_record(directory / RECORD)
    if record is None:
        return f"has a damaged {RECORD}"
    if record["name"] != _name(directory):
        return f"has the content of {record['name']}"
    wrong = next(_wrong_files(directory, state, record["files"]), None)
    if wrong is None:
        _verified[key] = state
    return wrong


def moved(source: Path, destination: Path) -> None:
    """Move an artifact; what was found whole stays so."""
    source.replace(destination)
    if str(source) in _verified:
        _verified[str(destination)] = _verified.pop(str(source))


def safe_names(record: Mapping[str, Any]) -> list[str] | None:
    """Return the names of an artifact's files, or None if one would lie outside of its directory."""
    names = [str(name) for name in record["files"]]
    return (
        None if any(PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts for name in names) else names
    )


def _wrong_files(directory: Path, found: Iterable[str], files: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*found} - {*files, RECORD}):
        yield f"has a file that is not its own, {name}"
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            yield f"lacks {name}"
        elif path.stat().st_size != expected["bytes"]:
            yield f"has {path.stat().st_size:,} bytes of {name} instead of {expected['bytes']:,}"
        else:
            try:
                right = checksum(path) == expected["xxh3"]
            except OSError as error:
                if error.errno in (errno.EACCES, errno.EPERM):
                    raise
                yield f"cannot be read at {name} ({error.strerror})"
            else:
                if not right:
                    yield f"has other content in {name} than was written"


def _name(directory: Path) -> str:
    """Return kind and fingerprint of an artifact, which also its work directory is called by."""
    return f"{directory.parent.name}/{directory.name.partition('.')[0]}"


def _state(directory: Path) -> dict[str, tuple[int, ...]]:
    """Return what the system says of each file; a change of its content changes it.

    Hidden files are those of file managers and network disks, and never read.
    """
    found = {}
    for entry in _files_below(directory):
        try:
            stat = entry.stat()
        except OSError:  # a broken link
            stat = entry.stat(follow_symlinks=False)
        name = os.path.relpath(entry.path, directory)
        times = () if name == RECORD else (stat.st_mtime_ns, stat.st_ctime_ns)  # the record's is that of the last use
        found[name] = (stat.st_mode, stat.st_ino, stat.st_size, *times)
    return found


def _files_below(directory: str | Path) -> Iterator["os.DirEntry[str]"]:
    """Yield all files, in no order; hidden ones and hidden folders are left out."""
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            else:
                yield entry


def _own_checksum(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    return xxhash.xxh3_128(text.encode()).hexdigest()
