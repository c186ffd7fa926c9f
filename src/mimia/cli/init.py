"""``mimia init``."""

from pathlib import Path
from typing import Annotated

import typer

from mimia.cli.input import writable
from mimia.runtime.errors import MimiaError

app = typer.Typer()


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("mimia.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Write a settings file with a comment on every key, for --config."""
    from mimia.config.settings import read_settings
    from mimia.config.toml import to_toml
    from mimia.runtime.store import replacing

    if path.exists() and not force:
        raise MimiaError(f"{path} exists: pass another name, or --force to replace it.")
    writable(path.parent).mkdir(parents=True, exist_ok=True)
    with replacing(path) as partial:
        partial.write_text(to_toml(read_settings(None, {})), encoding="utf-8")
    typer.echo(f"Wrote {path}: edit it, then run `mimia audit --config {path}`.")
