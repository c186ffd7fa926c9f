"""``mimia store``."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimia.cli.options import settings_of, with_settings
from mimia.cli.output import print_table

if TYPE_CHECKING:
    from mimia.runtime.store import Store

app = typer.Typer(name="store", help="List, check and tidy up the store of results.", no_args_is_help=True)
_PLACE = {"--store": "store"}
_UNITS = ("B", "kB", "MB", "GB", "TB")


@app.command("ls", cls=with_settings(_PLACE))
def list_artifacts(ctx: typer.Context) -> None:
    """List what lies in the store: size, when it was made, when it was last used, and what from."""
    from mimia.runtime.inventory import entries, size

    store = _open(ctx)
    found = entries(store)
    rows = []
    for entry in found:
        record = entry.record or {}
        state = "of an older version, not used" if entry.old else "its record is damaged: run `mimia store verify`"
        rows.append(
            {
                "artifact": entry.name[:-24],
                "size": readable(size(entry.path)),
                "made (UTC)": record.get("made", "")[:16].replace("T", " "),
                "unused": f"{entry.days_unused:.0f} days" if record else "",
                "from": origin(record["settings"]) if record else state,
            }
        )
    if rows:
        print_table(rows)
    typer.echo(f"{len(rows):,} artifacts, {readable(sum(size(entry.path) for entry in found))}, in {store.root}")


@app.command(cls=with_settings(_PLACE))
def verify(ctx: typer.Context) -> None:
    """Compare all files with their checksums; damaged artifacts are put aside, and the exit code is 1."""
    from mimia.runtime.inventory import broken, entries
    from mimia.runtime.progress import progress

    store = _open(ctx)
    found, damaged = entries(store), 0
    with progress("verifying", len(found)) as advance:
        for entry, why in broken(found):
            if why is not None:
                damaged += 1
                store.quarantine(entry.name, why, ", and made again when it is needed")
            advance(1)
    old = sum(entry.old for entry in found)
    unchecked = f", {old:,} of an older version without checksums" if old else ""
    typer.echo(f"{len(found) - damaged - old:,} artifacts are whole, {damaged:,} damaged{unchecked}, in {store.root}")
    if damaged:
        raise typer.Exit(1)


@app.command(cls=with_settings(_PLACE))
def gc(
    ctx: typer.Context,
    days: Annotated[
        int | None,
        typer.Option(help="Delete also artifacts that were not used for so many days: more than any run takes.", min=1),
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Delete it; without this, only list it.")] = False,
) -> None:
    """Free space: what interrupted runs left, damaged artifacts and those of older versions; nothing that is locked."""
    from mimia.runtime.inventory import delete as delete_item
    from mimia.runtime.inventory import garbage, size

    store = _open(ctx)
    rows, freed = [], 0
    for item in garbage(store, days):
        bytes_of_item = size(item.path)
        gone = not delete or delete_item(store, item)
        freed += bytes_of_item if gone else 0
        why = item.why if gone else f"{item.why}, but in use: kept"
        rows.append({"what": str(item.path.relative_to(store.root)), "size": readable(bytes_of_item), "why": why})
    if rows:
        print_table(rows)
    hint = "" if delete or not rows else ": run the same with --delete"
    typer.echo(f"{readable(freed)} {'freed' if delete else 'can be freed'} in {store.root}{hint}")


def readable(size: int) -> str:
    """Return a number of bytes for a person.

    >>> readable(0), readable(999), readable(1_234_567)
    ('0 B', '999 B', '1.2 MB')
    """
    amount, unit = float(size), 0
    while amount >= 1000 and unit < len(_UNITS) - 1:
        amount, unit = amount / 1000, unit + 1
    return f"{amount:.1f} {_UNITS[unit]}" if unit else f"{size} B"


def origin(settings: Mapping[str, Any]) -> str:
    """Return in a few words what an artifact was made from.

    >>> origin({"signal": "embeddings", "model": "0123456789abcdef"})
    'embeddings of model 01234567'
    """
    match settings:
        case {"sources": sources}:
            return ", ".join(name for name, _ in sources)
        case {"signal": signal, "model": model}:
            return f"{signal} of model {model[:8]}"
        case {"how": how, "encoder": encoder}:
            return f"{how}, for encoder {encoder[:8]}"
        case {"recipe": {"family": family, "size": name, "epochs": epochs}, "seed": seed, "images": images}:
            return f"{family}-{name}, {epochs} epochs, seed {seed}, images {images[:8]}"
        case {"architecture": {"family": family}, **others}:
            return f"{family}, " + ("untrained" if "untrained" in others else f"copy of {str(others.get('id'))[:8]}")
    return ""


def _open(ctx: typer.Context) -> "Store":
    from mimia.runtime.errors import MimiaError
    from mimia.runtime.store import MARK, Store

    store = Store(settings_of(ctx).store)
    if not (store.root / MARK).is_file():
        raise MimiaError(f"There is no store at {store.root}: name another with --store.")
    return store
