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
    settings_of,
    with_settings,
)
from mimia.cli.output import print_result

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
def audit(ctx: typer.Context, config: Config = None, assignments: Assignments = None) -> None:
    """Audit a model whose members are known; without arguments, one that is trained here on the built-in digits."""
    settings = settings_of(ctx, config, assignments)
    from mimia.jobs.audit import audit as run_audit

    directory = run_directory("audit", settings)
    result = run_audit(settings=settings)
    print_result(result.report, result.save(directory))
