"""What commands print."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from mimia.jobs.prepared import PreparedJob
    from mimia.jobs.results import AuditResult, InferenceResult
    from mimia.report.schema import Report


def print_table(rows: list[dict[str, str]]) -> None:
    """Print rows as a table headed by their keys."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for place, column in enumerate(rows[0]):
        table.add_column(column, no_wrap=place == 0, overflow="fold")  # names are typed, so they stay in one piece
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def run_and_print(
    job: "PreparedJob[AuditResult] | PreparedJob[InferenceResult]", directory: Path, *, plan_only: bool
) -> None:
    """Show the plan of a job, and run it unless only the plan is asked for.

    Args:
        job: The job.
        directory: Where its report is written.
        plan_only: Whether to stop after the plan, which then goes to standard output.
    """
    plan = str(job.plan())
    if plan_only:
        typer.echo(plan)
        return
    typer.echo(plan, err=True)
    result = job.run()
    print_result(result.report, result.save(directory))


def print_result(report: "Report", page: Path) -> None:
    """Print verdict, evaluations and the path of the page; exit with code 1 if the run is invalid."""
    typer.echo(f"{report.verdict.title}: {report.verdict.sentence}")
    for evaluation in getattr(report, "evaluations", ()):
        typer.echo(f"  {evaluation.attack:<21} AUC {evaluation.auc}, TPR {evaluation.tpr_at_1_percent} at 1 % FPR")
    typer.echo(page.resolve())
    if report.verdict.kind == "invalid":
        raise typer.Exit(1)
