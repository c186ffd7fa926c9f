"""``mimia reproduce``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mimia.cli.input import writable
from mimia.cli.options import PLACE, settings_of, with_settings
from mimia.cli.output import print_table
from mimia.runtime.errors import MimiaError

if TYPE_CHECKING:
    from mimia.experiments.grid import Profile

app = typer.Typer()
_COMPUTE = {"--threads": "compute.threads", "--precision": "compute.precision"}


@app.command(cls=with_settings(_COMPUTE, PLACE))
def reproduce(
    ctx: typer.Context,
    experiment: Annotated[str | None, typer.Argument(help="One of those that --list shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Reproduce all of them.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="List the experiments and run none.")] = False,
    profile: Annotated[
        str, typer.Option(help="smoke: digits, minutes; mini: small images, hours; paper: for GPUs.")
    ] = "mini",
    data: Annotated[Path, typer.Option(help="Folder of the data files.", envvar="MIMIA_DATA")] = Path("data"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    pages: Annotated[Path | None, typer.Option(help="Folder of tables and figures, made of the results alone.")] = None,
    only: Annotated[str | None, typer.Option(help="Run only the audits whose names begin with this.")] = None,
) -> None:
    """Reproduce an experiment: a grid of audits, of which those with a result are not run again."""
    common = settings_of(ctx).model_dump(include={"compute", "store"})
    size = _profile(profile)
    from mimia.experiments.registry import EXPERIMENTS
    from mimia.experiments.runner import Selection
    from mimia.experiments.runner import reproduce as run_experiments
    from mimia.experiments.status import list_cells, list_experiments, missing_data

    names = [*EXPERIMENTS] if experiment is None else [experiment]
    if listed:
        print_table(
            list_experiments(size, data, results) if experiment is None else list_cells(experiment, size, data, results)
        )
        for path in missing_data(names, size, data):
            typer.echo(f"{path} does not exist, so audits of it fail: pass the folder of the data files with --data.")
        return
    if (experiment is None) != everything:
        raise MimiaError("Name one experiment of those that `mimia reproduce --list` shows, or pass --all.")
    folders = None
    if pages is not None:
        folders = {name: writable(pages / name if everything else pages) for name in names}
    # print, not typer.echo, which would write into the progress bars
    failures = run_experiments(Selection(names, size, data, writable(results), only or ""), common, print, folders)
    if failures:
        typer.echo(f"{len(failures)} failed:", err=True)
        for name, reason in failures.items():
            typer.echo(f"  {name}: {reason}", err=True)
        raise typer.Exit(1)


def _profile(name: str) -> "Profile":
    from typing import get_args

    from mimia.experiments.grid import Profile

    profiles: dict[str, Profile] = {each: each for each in get_args(Profile)}
    if name not in profiles:
        raise MimiaError(f"There is no profile {name!r}: choose from {', '.join(profiles)}.")
    return profiles[name]
