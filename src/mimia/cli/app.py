"""The command line: one module a command, each a thin call of the package.

Modules that are slow to import are imported in the commands, so that ``mimia --help`` answers at once.
"""

import sys
from itertools import pairwise

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
    store,
)
from mimia.cli.stopping import EXIT_CODE, FAREWELL, ending_when_told
from mimia.runtime.disk import disk_sentence
from mimia.runtime.errors import MimiaError
from mimia.runtime.interruption import Stopped
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
    store,
):
    app.add_typer(command.app)

_LONGEST = 290  # characters of a sentence, in which a path may have thousands
_INTERRUPTED = 130  # typer's exit code after a KeyboardInterrupt
_SOME_DISK = "the output, the store or temporary files (TMPDIR)"  # where the system does not say which file it refused


def main() -> None:
    """Run the command line; bad input ends with one sentence and exit code 2."""
    debug = "--debug" in sys.argv
    if debug:
        sys.argv.remove("--debug")  # wherever it stands
    try:
        _refuse_empty_arguments()
        with ending_when_told():
            app()
    except (MimiaError, OSError) as error:
        if debug:
            raise
        typer.secho(f"Error: {shortened(_sentence(error), _LONGEST)}", fg="red", err=True)
        sys.exit(2)
    except Stopped:
        typer.echo(FAREWELL, nl=False, err=True)
        sys.exit(EXIT_CODE)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            typer.secho("\nInterrupted: the same command continues where it stopped.", err=True)
        raise


def _refuse_empty_arguments() -> None:
    """Raise if an argument is empty: a path of it would be the current directory."""
    for before, argument in pairwise(sys.argv):
        if not argument.strip():
            raise MimiaError(f"The value after {before} is empty: see whether a variable of the shell is set.")


def _sentence(error: MimiaError | OSError) -> str:
    if isinstance(error, MimiaError):
        return str(error)
    place = _SOME_DISK if error.filename is None else str(error.filename)
    return str(MimiaError(disk_sentence(error, place, "name another place")))  # which masks secrets
