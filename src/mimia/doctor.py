"""Can mimia work here?"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from mimia.compute import accelerator, hardware, versions
from mimia.config import Settings
from mimia.errors import MimiaError
from mimia.store import Store

_LITTLE_DISK = 2 * 2**30  # bytes


@dataclass(frozen=True)
class Check:
    """What was looked at and found.

    Attributes:
        name: What was looked at.
        finding: What was found, and how to mend it if it is not good.
        good: Whether mimia can work with it.
    """

    name: str
    finding: str
    good: bool


def examine(settings: Settings) -> Iterator[Check]:
    """Look at versions, device, store and disk, one after the other."""
    yield Check("versions", ", ".join(f"{name} {text}" for name, text in versions().items()), True)
    try:
        accelerator(settings.compute)
    except MimiaError as error:
        yield Check("device", str(error), False)
    else:
        yield Check("device", ", ".join(f"{name} {value}" for name, value in hardware(settings.compute).items()), True)
    store = Store(settings.store)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        probe = store.root / "doctor"
        probe.write_bytes(b"mimia")
        probe.unlink()
    except OSError as error:
        yield Check("store", f"{settings.store} cannot be written ({error.strerror}): pass --store.", False)
        return
    yield Check("store", settings.store, True)
    free = shutil.disk_usage(store.root).free
    advice = "" if free > _LITTLE_DISK else ": free some space, or pass --store"
    yield Check("disk", f"{free / 2**30:.1f} GiB free{advice}", free > _LITTLE_DISK)
