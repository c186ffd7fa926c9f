"""The command line: thin commands over `audit`, `infer`, pre-training and reports.

What is heavy is imported where it is used, so that ``mimia --help`` answers at once.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mimia.cli_input import names_of, profile_of, run_directory, settings_of, writable
from mimia.errors import MimiaError

app = typer.Typer(
    help="Does this image encoder give away the images it was pre-trained on?",
    epilog="With --debug, an error shows its traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings; `mimia init` writes one.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any key of the settings, as in --set recipe.epochs=800.", metavar="KEY=VALUE"),
]
StoreOption = Annotated[str | None, typer.Option("--store", help="Where results are kept: directory or fsspec URL.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda, mps or xpu.")]
Recipe = Annotated[str | None, typer.Option(help="Recipe of the training: mae-nano, mae-micro, mae-tiny, … mae-huge.")]
Epochs = Annotated[int | None, typer.Option(help="Passes over the training images.")]
ImageSize = Annotated[int | None, typer.Option(help="Side in pixels to which images are brought.")]
Seed = Annotated[int | None, typer.Option(help="Seed of the training.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Directory of the report.")]
Decoder = Annotated[
    str | None, typer.Option(help="Who reconstructs: own, fitted, shadow or aligned; default: own, or else fitted.")
]
Embeddings = Annotated[
    str | None, typer.Option(help="The model as a function to vectors: package.module:function, or an HTTP endpoint.")
]
Shadows = Annotated[int | None, typer.Option(help="Number of shadow models.")]
Attacks = Annotated[
    str | None, typer.Option(help="Names with commas between them, of those that `mimia attacks` lists; or all.")
]
DATA = "'digits', a folder, a parquet file, or what datasets.load_dataset opens"
_INTERRUPTED = 130  # what typer makes of a KeyboardInterrupt


@app.command()
def audit(
    target: Annotated[str | None, typer.Option(help="Checkpoint directory; default: one is trained here.")] = None,
    data: Annotated[str | None, typer.Option(help=f"One source for all sides: {DATA}.")] = None,
    members: Annotated[str | None, typer.Option(help="Source of the members.")] = None,
    nonmembers: Annotated[str | None, typer.Option(help="Source of the non-members.")] = None,
    canaries: Annotated[
        str | None, typer.Option(help="Directory of canaries that `mimia pretrain` wrote, instead of both sides.")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="Source of the shadows' images.")] = None,
    near_duplicates: Annotated[
        str | None, typer.Option(help="keep or remove non-members that show the same picture as a member.")
    ] = None,
    n_members: Annotated[int | None, typer.Option(help="Number of members.")] = None,
    n_nonmembers: Annotated[int | None, typer.Option(help="Number of non-members.")] = None,
    embeddings: Embeddings = None,
    decoder: Decoder = None,
    image_size: ImageSize = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    shadows: Shadows = None,
    attacks: Attacks = None,
    seed: Seed = None,
    device: Device = None,
    store: StoreOption = None,
    out: Out = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Audit a model whose members are known; without arguments, one that is trained here on the built-in digits."""
    settings = settings_of(
        config,
        set_,
        {
            "target": target,
            "embeddings": embeddings,
            "decoder.source": decoder,
            "store": store,
            "out": out,
            "data.source": data,
            "data.members": members,
            "data.nonmembers": nonmembers,
            "data.canaries": canaries,
            "data.reference": reference,
            "data.near_duplicates": near_duplicates,
            "data.image_size": image_size,
            "split.n_members": n_members,
            "split.n_nonmembers": n_nonmembers,
            "recipe.preset": recipe,
            "recipe.epochs": epochs,
            "recipe.seed": seed,
            "shadows.count": shadows,
            "attacks.names": names_of(attacks),
            "compute.device": device,
        },
    )
    from mimia.audit import audit as run_audit
    from mimia.report.files import write_run

    directory = run_directory("audit", settings)
    result = run_audit(settings)
    page = write_run(directory, result.report, result.scores)
    verdict = result.report.verdict
    typer.echo(f"{verdict.kind.capitalize()}: {verdict.sentence}")
    for evaluation in result.report.evaluations:
        typer.echo(f"  {evaluation.attack:<21} area {evaluation.area}, at 1 % FPR {evaluation.tpr_at_1_percent}")
    typer.echo(page.resolve())
    if verdict.kind == "invalid":
        raise typer.Exit(1)


@app.command()
def infer(
    candidates: Annotated[str, typer.Option(help=f"Images in question: {DATA}.")],
    target: Annotated[str | None, typer.Option(help="Checkpoint directory of the model in question.")] = None,
    reference: Annotated[str | None, typer.Option(help="Images like them that the model has not seen.")] = None,
    rate: Annotated[float | None, typer.Option("--fdr", help="Bound on the share of false entries.")] = None,
    embeddings: Embeddings = None,
    decoder: Decoder = None,
    image_size: ImageSize = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    shadows: Shadows = None,
    attacks: Attacks = None,
    device: Device = None,
    store: StoreOption = None,
    out: Out = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Find members among images of unknown membership: p-values, a list with bounded false discoveries, a verdict."""
    settings = settings_of(
        config,
        set_,
        {
            "target": target,
            "embeddings": embeddings,
            "decoder.source": decoder,
            "store": store,
            "out": out,
            "data.reference": reference,
            "data.image_size": image_size,
            "recipe.preset": recipe,
            "recipe.epochs": epochs,
            "shadows.count": shadows,
            "attacks.names": names_of(attacks),
            "evaluation.false_discovery_rate": rate,
            "compute.device": device,
        },
    )
    from mimia.infer import infer as run_infer
    from mimia.report.files import write_run

    directory = run_directory("infer", settings, candidates)
    result = run_infer(settings, candidates)
    page = write_run(directory, result.report, result.scores)
    verdict = result.report.verdict
    typer.echo(f"{verdict.kind.capitalize()}: {verdict.sentence}")
    typer.echo(page.resolve())
    if verdict.kind == "invalid":
        raise typer.Exit(1)


@app.command()
def pretrain(
    out: Annotated[Path, typer.Option("--out", "-o", help="Directory of the checkpoint.")],
    data: Annotated[str | None, typer.Option(help=f"Source of the images: {DATA}.")] = None,
    n_images: Annotated[int | None, typer.Option(help="Train on so many, drawn at random; default: all.")] = None,
    canaries: Annotated[
        int | None, typer.Option(help="Draw so many more, and train on those of them that a coin decides for.")
    ] = None,
    canary_kind: Annotated[str | None, typer.Option(help="What is made of these: image, noise or patches.")] = None,
    image_size: ImageSize = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = None,
    store: StoreOption = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Pre-train a masked autoencoder and write its checkpoint, with the list of its training images."""
    settings = settings_of(
        config,
        set_,
        {
            "store": store,
            "data.source": data,
            "data.image_size": image_size,
            "split.n_members": n_images,
            "canaries.count": canaries,
            "canaries.kind": canary_kind,
            "recipe.preset": recipe,
            "recipe.epochs": epochs,
            "recipe.seed": seed,
            "compute.device": device,
        },
    )
    from mimia.pretraining.command import pretrain as run_pretrain

    typer.echo(run_pretrain(settings, writable(out)).resolve())


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory of mimia.")],
    destination: Annotated[Path, typer.Argument(help="New directory, for transformers' from_pretrained.")],
) -> None:
    """Write a checkpoint as a directory that transformers' ViTMAEForPreTraining opens."""
    from mimia.encoders.checkpoints.transformers import export as run_export

    run_export(checkpoint, writable(destination))
    typer.echo(destination.resolve())


@app.command()
def inspect(
    checkpoint: Annotated[str, typer.Argument(help="Directory, file, or name on the hub.")],
    target_space: Annotated[
        str | None, typer.Option(help="What the decoder predicts: normalised or patch-normalised pixels.")
    ] = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Say what a checkpoint is, whoever trained it, and what can be audited with it."""
    settings = settings_of(config, set_, {"checkpoint.target_space": target_space})
    from mimia.attacks.registry import ATTACKS
    from mimia.attacks.selection import access_of
    from mimia.encoders.checkpoints.inspect import describe
    from mimia.encoders.checkpoints.opening import open_checkpoint
    from mimia.signals.base import ACCESS_LEVELS

    opened = open_checkpoint(checkpoint, settings.checkpoint)
    within = ACCESS_LEVELS[: ACCESS_LEVELS.index(opened.access) + 1]
    attacks = ", ".join(name for name, make in ATTACKS.items() if access_of(make().needs) in within)
    for name, value in [*describe(opened), ("attacks", attacks)]:
        typer.echo(f"{name:<12}{value}")


@app.command()
def attacks() -> None:
    """List the attacks and the signals that they take: what each needs, and where it was published."""
    from mimia.attacks.selection import overview, signals_overview

    for rows in (overview(), signals_overview()):
        _show(rows)
    typer.echo("No attack takes a label of an image, or the target's membership.")


@app.command()
def reproduce(
    experiment: Annotated[str | None, typer.Argument(help="Which of those that --list shows.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Reproduce all of them.")] = False,
    listed: Annotated[bool, typer.Option("--list", help="Show the experiments, and run none.")] = False,
    profile: Annotated[
        str, typer.Option(help="smoke: digits, minutes; mini: small images, hours; paper: for GPUs.")
    ] = "mini",
    data: Annotated[Path, typer.Option(help="Folder of the data files.", envvar="MIMIA_DATA")] = Path("../shared/data"),
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("results"),
    pages: Annotated[Path | None, typer.Option(help="Folder for tables and figures, from the results alone.")] = None,
    only: Annotated[str | None, typer.Option(help="Run the audits alone whose names begin so.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of each model.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, or bf16, which is faster where the processor has it.")] = "fp32",
    device: Device = None,
    store: StoreOption = None,
) -> None:
    """Reproduce an experiment: a grid of audits, of which those with a result are not run again."""
    from mimia.experiments.plan import missing_data, overview
    from mimia.experiments.registry import EXPERIMENTS
    from mimia.experiments.runner import reproduce as run_experiments

    size = profile_of(profile)
    common: dict[str, Any] = {"compute": {"device": device or "auto", "threads": threads, "precision": precision}}
    common |= {"store": store} if store else {}
    if listed:
        _show(overview(size, data, results, common))
        for path in missing_data(size, data):
            typer.echo(f"There is no {path}: audits that take it fail; name the folder of the data files with --data.")
        return
    if (experiment is None) != everything:
        raise MimiaError("Name one experiment of those that `mimia reproduce --list` shows, or pass --all.")
    names = [*EXPERIMENTS] if experiment is None else [experiment]
    folders = None
    if pages is not None:
        folders = {name: writable(pages / name if everything else pages) for name in names}
    # print, and not typer's echo, which writes past the bars into the middle of them
    failures = run_experiments(names, size, data, writable(results), common, print, only, folders)
    if failures:
        typer.echo(f"{len(failures)} failed:", err=True)
        for name, reason in failures.items():
            typer.echo(f"  {name}: {reason}", err=True)
        raise typer.Exit(1)


@app.command()
def defend(
    data: Annotated[str | None, typer.Option(help=f"Source of the images: {DATA}; default: digits.")] = None,
    n_members: Annotated[int | None, typer.Option(help="Number of training images.")] = None,
    image_size: ImageSize = None,
    recipe: Recipe = None,
    epochs: Epochs = None,
    seed: Seed = None,
    device: Device = None,
    store: StoreOption = None,
    out: Out = None,
    config: Config = None,
    set_: Set = None,
) -> None:
    """Train a model with each defence, and draw what it gives away against what it is good for."""
    settings = settings_of(
        config,
        set_,
        {
            "store": store,
            "out": out,
            "data.source": data,
            "data.image_size": image_size,
            "split.n_members": n_members,
            "recipe.preset": recipe,
            "recipe.epochs": epochs,
            "recipe.seed": seed,
            "compute.device": device,
        },
    )
    from mimia.experiments.defend import defend as run_defend

    page, failures = run_defend(settings, run_directory("defend", settings), typer.echo)
    typer.echo(page.resolve())
    if failures:
        raise typer.Exit(1)


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Directory of a run.")]) -> None:
    """Render report.html anew from report.json."""
    from mimia.report.files import read_report, write_page

    typer.echo(write_page(run, read_report(run)).resolve())


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write.")] = Path("mimia.toml"),
    force: Annotated[bool, typer.Option("--force", help="Replace the file if there is one.")] = False,
) -> None:
    """Write a settings file with a comment on every key, for --config."""
    from mimia.config_file import to_toml

    if path.exists() and not force:
        raise MimiaError(f"{path} exists: pass another name, or --force to replace it.")
    writable(path.parent).mkdir(parents=True, exist_ok=True)
    path.write_text(to_toml(settings_of(None, None, {})), encoding="utf-8")
    typer.echo(f"Wrote {path}: edit it, then run `mimia audit --config {path}`.")


@app.command("self-test")
def self_test(
    data: Annotated[str | None, typer.Option(help=f"Source of the images: {DATA}; default: digits.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the images and of the target's training.")] = None,
    device: Device = None,
    store: StoreOption = None,
) -> None:
    """Plant leaks and mistakes whose truth is known, and see that the verdict on each is right."""
    settings = settings_of(
        None,
        None,
        {"store": store, "compute.device": device, "data.source": data, "split.seed": seed, "recipe.seed": seed},
    )
    from mimia.self_test import self_test as run_self_test

    wrong = 0
    for outcome in run_self_test(settings):
        wrong += not outcome.right
        case, kind = outcome.case, outcome.verdict.kind
        found = kind if outcome.right else f"{kind}, and should be: {case.expected}"
        typer.echo(f"{'ok' if outcome.right else '!!':<4}{case.name:<22}{found:<18}{case.planted}")
    if wrong:
        typer.echo(f"{wrong} verdicts are wrong: do not trust this installation's verdicts.", err=True)
        raise typer.Exit(1)


@app.command()
def doctor(store: StoreOption = None) -> None:
    """Say whether mimia can work here: versions, device, store, disk."""
    from mimia.doctor import examine

    healthy = True
    for check in examine(settings_of(None, None, {"store": store})):
        healthy &= check.good
        typer.echo(f"{'ok' if check.good else '!!':<4}{check.name:<14}{check.finding}")
    if not healthy:
        raise typer.Exit(2)


def _show(rows: list[dict[str, str]]) -> None:
    """Print rows as a table, the keys as its head."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False)
    for place, column in enumerate(rows[0]):
        table.add_column(column, no_wrap=place == 0, overflow="fold")  # names are typed: they stay in one piece
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")  # wherever it stands
    try:
        app()
    except (MimiaError, OSError) as error:
        if debug:
            raise
        message = f"The system refused ({error}): name another place." if isinstance(error, OSError) else str(error)
        typer.secho(f"Error: {message}", fg="red", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            typer.secho("\nInterrupted: the same command goes on where it stopped.", err=True)
        raise
