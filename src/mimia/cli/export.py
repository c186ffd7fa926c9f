"""``mimia export``."""

from pathlib import Path
from typing import Annotated

import typer

from mimia.cli.input import writable

app = typer.Typer()


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory of mimia.")],
    destination: Annotated[Path, typer.Argument(help="New directory, for transformers' from_pretrained.")],
) -> None:
    """Write a checkpoint as a directory that transformers' ViTMAEForPreTraining opens."""
    from mimia.models.checkpoints.export import export as run_export

    run_export(checkpoint, writable(destination))
    typer.echo(destination.resolve())
