"""``mimia audit``."""

import typer

from mimia.cli.input import run_directory
from mimia.cli.options import (
    ATTACKS,
    MODEL,
    OUT,
    PLACE,
    RECIPE,
    SEED,
    SKIPPED,
    Assignments,
    Config,
    PlanOnly,
    settings_of,
    with_settings,
)
from mimia.cli.output import run_and_print

app = typer.Typer()
_IMAGES = {
    "--data": "data.source",
    "--members": "data.members",
    "--nonmembers": "data.nonmembers",
    "--canaries": "data.canaries",
    "--reference": "data.reference",
    "--near-duplicates": "data.near_duplicates",
    "--n-members": "split.n_members",
    "--n-nonmembers": "split.n_nonmembers",
}


@app.command(cls=with_settings(MODEL, _IMAGES, SKIPPED, RECIPE, SEED, ATTACKS, PLACE, OUT))
def audit(ctx: typer.Context, plan: PlanOnly = False, config: Config = None, assignments: Assignments = None) -> None:
    """Audit a model whose members are known; without arguments, one that is trained here on the built-in digits.

    If the model was continued from a public one, pass that with --references: nothing else shows so much, and nothing
    is trained.
    """
    settings = settings_of(ctx, config, assignments)
    from mimia.jobs.audit import prepare_audit
    from mimia.jobs.inputs import JobInputs

    directory = run_directory("audit", settings)
    run_and_print(prepare_audit(JobInputs(settings, {})), directory, plan_only=plan)
