"""``mimia inspect``."""

from typing import Annotated

import typer

from mimia.cli.options import WEIGHTS, Assignments, Config, settings_of, with_settings

app = typer.Typer()


@app.command(cls=with_settings(WEIGHTS, {"--target-space": "checkpoint.target_space"}))
def inspect(
    ctx: typer.Context,
    checkpoint: Annotated[str, typer.Argument(help="Directory, file, or name on the hub.")],
    data: Annotated[
        str | None,
        typer.Option(help="Images like those of its training, by which what it does not say is found out."),
    ] = None,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Describe a checkpoint, whoever trained it, and list the attacks that it allows."""
    settings = settings_of(ctx, config, assignments)
    import numpy as np

    from mimia.attacks.registry import ATTACKS
    from mimia.attacks.selection import access_of
    from mimia.data.loading import load_images
    from mimia.models.checkpoints.description import Line, describe
    from mimia.models.checkpoints.identification import identify
    from mimia.models.checkpoints.loading import load_checkpoint
    from mimia.signals.arrays import ACCESS_LEVELS

    loaded = load_checkpoint(checkpoint, settings.checkpoint)
    if data is not None:
        spec = loaded.model.spec
        images = load_images(
            data,
            image_size=spec.image_size,
            channels=spec.channels,
            bit_depth=settings.data.bit_depth,
            store=settings.store,
        )
        order = np.random.default_rng(settings.evaluation.seed).permutation(len(images))
        loaded = identify(loaded, images.take(order), settings.compute)
    within = ACCESS_LEVELS[: ACCESS_LEVELS.index(loaded.access) + 1]
    attacks = ", ".join(name for name, make in ATTACKS.items() if access_of(make().requirements) in within)
    for line in [*describe(loaded), Line("attacks", attacks)]:
        typer.echo(f"{line.name:<14}{line.value}{f'  [{line.source}]' if line.source else ''}")
