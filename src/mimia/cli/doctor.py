"""``mimia doctor``."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from mimia.cli.options import settings_of, with_settings
from mimia.runtime.errors import MimiaError

if TYPE_CHECKING:
    from mimia.config.settings import Settings

app = typer.Typer()
_LEAST_DISK = 2 * 2**30  # bytes


@dataclass(frozen=True)
class Diagnosis:
    """The state of one thing that mimia depends on.

    Attributes:
        name: Of the thing.
        finding: Its state, and how to mend it if it is not good.
        good: Whether mimia can work with it.
    """

    name: str
    finding: str
    good: bool


@app.command(cls=with_settings({"--store": "store"}))
def doctor(ctx: typer.Context) -> None:
    """Check whether mimia can work here: versions, device, store, disk."""
    healthy = True
    for each in diagnose(settings_of(ctx)):
        healthy &= each.good
        typer.echo(f"{'ok' if each.good else '!!':<4}{each.name:<14}{each.finding}")
    if not healthy:
        raise typer.Exit(2)


def diagnose(settings: "Settings") -> Iterator[Diagnosis]:
    """Yield the diagnoses of versions, device, store and disk."""
    from mimia.runtime.compute import accelerator, hardware, versions
    from mimia.runtime.store import Store
    from mimia.runtime.text import masked_address

    yield Diagnosis("versions", ", ".join(f"{name} {text}" for name, text in versions().items()), True)
    try:
        accelerator(settings.compute)
    except MimiaError as error:
        yield Diagnosis("device", str(error), False)
    else:
        found = ", ".join(f"{name} {value}" for name, value in hardware(settings.compute).items())
        yield Diagnosis("device", found, True)
    store, place = Store(settings.store), masked_address(settings.store)
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        probe = store.root / "doctor"
        probe.write_bytes(b"mimia")
        probe.unlink()
    except OSError as error:
        yield Diagnosis("store", f"{place} cannot be written ({error.strerror}): pass --store.", False)
        return
    yield Diagnosis("store", place, True)
    free = shutil.disk_usage(store.root).free
    advice = "" if free > _LEAST_DISK else ": free some space, or pass --store"
    yield Diagnosis("disk", f"{free / 2**30:.1f} GiB free{advice}", free > _LEAST_DISK)
