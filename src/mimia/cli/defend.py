"""``mimia defend``."""

import typer

from mimia.cli.input import run_directory
from mimia.cli.options import OUT, PLACE, RECIPE, SEED, Assignments, Config, settings_of, with_settings

app = typer.Typer()


@app.command(cls=with_settings({"--data": "data.source", "--n-members": "split.n_members"}, RECIPE, SEED, PLACE, OUT))
def defend(ctx: typer.Context, config: Config = None, assignments: Assignments = None) -> None:
    """Train a model with each defence, and plot its leakage against its utility."""
    settings = settings_of(ctx, config, assignments)
    from mimia.experiments.defend import defend as run_defend

    page, failures = run_defend(settings, run_directory("defend", settings), typer.echo)
    typer.echo(page.resolve())
    if failures:
        raise typer.Exit(1)
