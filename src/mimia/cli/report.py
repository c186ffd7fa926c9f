"""``mimia report``."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Directory of a run.")]) -> None:
    """Render report.html anew from report.json."""
    from mimia.report.files import read_report, write_page

    typer.echo(write_page(run, read_report(run)).resolve())
