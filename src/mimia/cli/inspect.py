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

    from mimia.attacks.selection import ALL, ThreatModel, select
    from mimia.data.loading import load_images
    from mimia.models.checkpoints.description import Line, describe
    from mimia.models.checkpoints.identification import identify
    from mimia.models.checkpoints.loading import load_checkpoint
    from mimia.models.registry import families_of

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
    decoder = settings.decoder.source or loaded.usual_decoder
    access = loaded.access if decoder == "own" else "encoder"
    family = next(families_of(loaded.model.architecture.family))
    threat_model = ThreatModel(
        access,
        settings.shadow_count,
        settings.shadows.online,
        family,
        fitting=decoder == "fitted",
        references=len(settings.references),
    )
    attacks, not_run = select((ALL,), threat_model)
    lines = []
    for reason in dict.fromkeys(not_run.values()):
        names = ", ".join(name for name in not_run if not_run[name] == reason)
        lines.append(Line("cannot run", f"{names}: {reason}"))
    lines.append(Line("attacks", ", ".join(attacks)))
    for line in [*describe(loaded), *lines]:
        typer.echo(f"{line.name:<14}{line.value}{f'  [{line.source}]' if line.source else ''}")
