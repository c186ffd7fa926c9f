"""The command line: one module a command, each a thin call of the package.

Modules that are slow to import are imported in the commands, so that ``mimia --help`` answers at once.
"""

import sys

import typer

from mimia.cli import (
    attacks,
    audit,
    defend,
    doctor,
    export,
    infer,
    init,
    inspect,
    pretrain,
    report,
    reproduce,
    self_test,
)
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

app = typer.Typer(
    help="Does this image encoder give away the images it was pre-trained on?",
    epilog="With --debug, an error shows its traceback.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    audit,
    infer,
    pretrain,
    export,
    inspect,
    attacks,
    reproduce,
    defend,
    report,
    init,
    self_test,
    doctor,
):
    app.add_typer(command.app)

_LONGEST = 290  # characters of a sentence, in which a path may have thousands
_INTERRUPTED = 130  # typer's exit code after a KeyboardInterrupt


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
        refusal = isinstance(error, OSError)
        message = str(MimiaError(f"The system refused ({error}): name another place.") if refusal else error)
        typer.secho(f"Error: {shortened(message, _LONGEST)}", fg="red", err=True)
        sys.exit(2)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            typer.secho("\nInterrupted: the same command continues where it stopped.", err=True)
        raise
