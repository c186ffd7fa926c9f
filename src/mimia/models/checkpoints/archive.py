"""Files of torch: a zip archive, or, before torch 1.6, pickles with the numbers behind them."""

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from mimia.models.checkpoints.pickles import LARGEST, DamagedError, Stored, read_pickle
from mimia.models.checkpoints.storages import Place, Storages, lengths
from mimia.models.checkpoints.values import Values
from mimia.runtime.errors import MimiaError

GIBIBYTE = 1 << 30
_LARGEST_FILE = 32 * GIBIBYTE
_GROWTH = 4  # of an archive that is unpacked; torch packs nothing
_PICKLE = "data.pkl"
_ORDER = "byteorder"
_PROGRAM = "constants.pkl"  # stands in archives of TorchScript
_HEADER = struct.Struct("<26xHH")  # of a member: lengths of its name, and of what stands between that and its content
_COUNT = struct.Struct("<q")
_MAGIC = 0x1950A86A20F9469CFC6C  # the first number of a file before torch 1.6
_PROTOCOL = 1001  # and the second


def refuse_large_file(path: Path) -> None:
    """Raise if a file is larger than any checkpoint that mimia takes.

    Raises:
        MimiaError: It is.
    """
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise MimiaError(
            f"{path} has {size / GIBIBYTE:,.0f} GiB, and {_LARGEST_FILE // GIBIBYTE} are the most: save the weights "
            "alone."
        )


def read_zip(path: Path) -> object:
    """Return the content of a zip archive that torch wrote; its numbers are mapped into memory.

    Raises:
        MimiaError: It would grow when it is read, holds a program, or is too large.
        DamagedError: It is no checkpoint, or is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if sum(member.file_size for member in members.values()) > _GROWTH * path.stat().st_size:
            raise MimiaError(f"{path} is much larger unpacked than packed, as no checkpoint is: it is not opened.")
        roots = [name.removesuffix(_PICKLE) for name in members if re.fullmatch(rf"[^/]+/{re.escape(_PICKLE)}", name)]
        if len(roots) != 1 or f"{roots[0]}{_PROGRAM}" in members:
            raise DamagedError("it is no archive of weights")
        start = f"{roots[0]}data/"
        with path.open("rb") as file:
            order = members.get(f"{roots[0]}{_ORDER}")
            if order is not None and _content(archive, file, order) != b"little":
                raise MimiaError(f"{path} was written on a machine of another byte order: save it on one like this.")
            content = read_pickle(io.BytesIO(_content(archive, file, members[roots[0] + _PICKLE])))
            places = {
                name.removeprefix(start): _place(archive, file, member)
                for name, member in members.items()
                if name.startswith(start)
            }
    return Values(Storages(path, places)).plain(content)


def _content(archive: zipfile.ZipFile, file: IO[bytes], member: zipfile.ZipInfo) -> bytes:
    """Return the content of a member that holds no numbers; a checksum of 0 is one that torch left out."""
    if member.file_size > LARGEST:
        raise MimiaError(
            f"{archive.filename} has more than {LARGEST >> 20} MiB beside its weights: save the weights alone, with "
            "torch.save(model.state_dict(), path)."
        )
    place = _place(archive, file, member)
    if isinstance(place, bytes):
        return place
    file.seek(place[0])
    content = file.read(place[1])
    if member.CRC not in (0, zlib.crc32(content)):
        raise DamagedError("the checksum is of another content")
    return content


def _place(archive: zipfile.ZipFile, file: IO[bytes], member: zipfile.ZipInfo) -> Place:
    if member.compress_type != zipfile.ZIP_STORED:
        return archive.read(member)
    file.seek(member.header_offset)
    start = member.header_offset + _HEADER.size + sum(_HEADER.unpack(file.read(_HEADER.size)))
    return _within(file, start, member.file_size)


def _within(file: IO[bytes], start: int, length: int) -> tuple[int, int]:
    if length < 0 or start + length > file.seek(0, io.SEEK_END):
        raise DamagedError("the file ends before its numbers do")
    return start, length


def read_legacy(path: Path) -> object:
    """Return the content of a file as torch wrote it before 1.6; its numbers are mapped into memory where they can be.

    Raises:
        DamagedError: It is none, or is damaged.
    """
    with path.open("rb") as file:
        start = io.BytesIO(file.read(LARGEST))
        magic, protocol, _ = (read_pickle(start) for _ in range(3))
        if magic != _MAGIC or protocol != _PROTOCOL:
            raise DamagedError("it does not begin as torch lets its files begin")
        stored: list[Stored] = []
        content, keys = read_pickle(start, stored), read_pickle(start)
        if not isinstance(keys, list):
            raise DamagedError("the keys of its numbers are missing")
        places = dict(_places(file, start.tell(), [*map(str, keys)], lengths(stored)))
    return Values(Storages(path, places)).plain(content)


def _places(file: IO[bytes], start: int, keys: Sequence[str], sizes: Mapping[str, int]) -> Iterator[tuple[str, Place]]:
    """Return where the numbers of each key stand: behind their count, one key after the other."""
    for key in keys:
        file.seek(start)
        (count,) = _COUNT.unpack(file.read(_COUNT.size))
        place = _within(file, start + _COUNT.size, count * sizes[key])
        yield key, place
        start = sum(place)
