"""``mimia inspect``."""

from typing import Annotated

import typer

from mimia.cli.options import WEIGHTS, Assignments, Config, settings_of, with_settings

app = typer.Typer()


@app.command(cls=with_settings(WEIGHTS, {"--target-space": "checkpoint.target_space"}))
def inspect(
    ctx: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Directory, file, or name on the hub.")],
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Describe a checkpoint, whoever trained it, and list the attacks that it allows."""
    settings = settings_of(ctx, config, assignments)
    from mimia.attacks.registry import ATTACKS
    from mimia.attacks.selection import access_of
    from mimia.models.checkpoints.description import describe
    from mimia.models.checkpoints.loading import load_checkpoint
    from mimia.signals.arrays import ACCESS_LEVELS

    loaded = load_checkpoint(checkpoint, settings.checkpoint)
    within = ACCESS_LEVELS[: ACCESS_LEVELS.index(loaded.access) + 1]
    attacks = ", ".join(name for name, make in ATTACKS.items() if access_of(make().requirements) in within)
    for name, value in [*describe(loaded), ("attacks", attacks)]:
        typer.echo(f"{name:<12}{value}")
