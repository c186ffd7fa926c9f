"""``mimia self-test``."""

from typing import Annotated

import typer

from mimia.cli.options import PLACE, settings_of, with_settings

app = typer.Typer()


@app.command(cls=with_settings({"--data": "data.source"}, PLACE))
def self_test(
    ctx: typer.Context,
    seed: Annotated[int | None, typer.Option(help="Seed of the split and of the target's training.")] = None,
) -> None:
    """Plant leaks and mistakes whose truth is known, and check the verdict on each."""
    settings = settings_of(ctx, more={"split.seed": seed, "recipe.seed": seed})
    from mimia.experiments.self_test import self_test as run_self_test

    wrong = 0
    for outcome in run_self_test(settings):
        wrong += not outcome.right
        case, kind = outcome.case, outcome.verdict.kind
        found = kind if outcome.right else f"{kind}, and should be: {case.expected}"
        typer.echo(f"{'ok' if outcome.right else '!!':<4}{case.name:<22}{found:<18}{case.planted}")
    if wrong:
        typer.echo(f"{wrong} verdicts are wrong: do not trust this installation's verdicts.", err=True)
        raise typer.Exit(1)
