"""``mimia pretrain``."""

from pathlib import Path
from typing import Annotated

import typer

from mimia.cli.input import writable
from mimia.cli.options import PLACE, RECIPE, SEED, SKIPPED, Assignments, Config, settings_of, with_settings

app = typer.Typer()
_IMAGES = {
    "--data": "data.source",
    "--n-images": "split.n_members",
    "--canaries": "canaries.count",
    "--canary-kind": "canaries.kind",
}


@app.command(cls=with_settings(_IMAGES, SKIPPED, RECIPE, SEED, PLACE))
def pretrain(
    ctx: typer.Context,
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the checkpoint.")],
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Pre-train a masked image model and write its checkpoint, with the list of its training images."""
    settings = settings_of(ctx, config, assignments)
    from mimia.pretraining.command import pretrain as run_pretrain

    typer.echo(run_pretrain(settings, writable(out)).resolve())
