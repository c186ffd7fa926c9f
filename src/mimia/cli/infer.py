"""``mimia infer``."""

from typing import Annotated

import typer

from mimia.cli.input import run_directory
from mimia.cli.options import (
    ATTACKS,
    MODEL,
    OUT,
    PLACE,
    RECIPE,
    SKIPPED,
    Assignments,
    Config,
    PlanOnly,
    settings_of,
    with_settings,
)
from mimia.cli.output import run_and_print

app = typer.Typer()
_OWN = {"--reference": "data.reference", "--fdr": "evaluation.false_discovery_rate"}


@app.command(cls=with_settings(MODEL, _OWN, SKIPPED, RECIPE, ATTACKS, PLACE, OUT))
def infer(
    ctx: typer.Context,
    candidates: Annotated[str, typer.Option(help="Source of the images in question, as in --data of `mimia audit`.")],
    plan: PlanOnly = False,
    config: Config = None,
    assignments: Assignments = None,
) -> None:
    """Find members among images of unknown membership: p-values, a list with bounded false discoveries, a verdict.

    If the model was continued from a public one, pass that with --references.
    """
    settings = settings_of(ctx, config, assignments)
    from mimia.jobs.infer import prepare_inference
    from mimia.jobs.inputs import JobInputs

    directory = run_directory("infer", settings, candidates)
    run_and_print(prepare_inference(JobInputs(settings, {}), candidates), directory, plan_only=plan)
