"""Options of the command line that stand for settings, derived from the fields of the settings.

pydantic-settings has a command line of its own, but that offers every setting on every command, under its dotted name
only, and it reads neither ``--set`` nor a file named by ``--config``.
"""

import inspect
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, cast, get_args, get_origin

import typer
from typer.core import TyperCommand

from mimia.cli.input import parse_assignment, parse_names

if TYPE_CHECKING:  # pydantic is slow to import, and `mimia --help` does without it
    from pydantic.fields import FieldInfo

    from mimia.config.settings import Settings

Config = Annotated[Path | None, typer.Option("--config", "-c", help="TOML file of settings; `mimia init` writes one.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="Any setting by its key, as in --set recipe.epochs=800.", metavar="KEY=VALUE"),
]
PlanOnly = Annotated[bool, typer.Option("--plan", help="Show what would be trained and queried, and stop there.")]

PLACE = {"--device": "compute.device", "--store": "store"}
SKIPPED = {"--allow-skipped": "data.allow_skipped"}
RECIPE = {"--image-size": "data.image_size", "--recipe": "recipe.preset", "--epochs": "recipe.epochs"}
SEED = {"--seed": "recipe.seed"}
OUT = {"--out -o": "out"}
WEIGHTS = {"--weights": "checkpoint.weights"}
MODEL = {
    "--target": "target",
    "--references": "references",
    **WEIGHTS,
    "--embeddings": "embeddings",
    "--decoder": "decoder.source",
}
ATTACKS = {"--shadows": "shadows.count", "--attacks": "attacks.names"}


class SettingsCommand(TyperCommand):
    """A command with an option for each of some settings.

    The options are made when the command is called or its help is shown.
    """

    flags: ClassVar[Mapping[str, str]] = {}

    @cached_property
    def derived(self) -> dict[str, Any]:
        """The parameters by the path of their setting."""
        return dict(zip(self.flags.values(), _parameters(self.flags), strict=True))

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the command's own parameters, then those of settings."""
        return [*super().get_params(ctx), *self.derived.values()]

    def invoke(self, ctx: Any) -> Any:
        """Call the command; the values of settings are passed in ``ctx.obj``, by path."""
        ctx.obj = {path: ctx.params.pop(parameter.name) for path, parameter in self.derived.items()}
        return super().invoke(ctx)


def with_settings(*flags: Mapping[str, str]) -> type[SettingsCommand]:
    """Return the class of a command with these options: flags, as in ``--out -o``, and paths of settings."""
    merged = {flag: path for group in flags for flag, path in group.items()}
    return type("SettingsCommand", (SettingsCommand,), {"flags": merged})


def settings_of(
    ctx: typer.Context,
    config: Path | None = None,
    assignments: list[str] | None = None,
    more: Mapping[str, Any] | None = None,
) -> "Settings":
    """Return the settings of a command line.

    Args:
        ctx: Context of a command `with_settings`: its options override assignments.
        config: Value of ``--config``.
        assignments: Values of ``--set``, which override the file.
        more: Values by path that override the options.

    Raises:
        MimiaError: The file, a key or a value is wrong.
    """
    from mimia.config.settings import read_settings
    from mimia.runtime.errors import MimiaError

    flags: dict[str, Any] = ctx.obj | (more or {})
    for path in ("attacks.names", "references"):
        if flags.get(path) is not None:
            flags[path] = parse_names(flags[path])
    given = [(path, value) for path, value in flags.items() if value is not None]
    values: dict[str, Any] = {}
    for path, value in [*map(parse_assignment, assignments or []), *given]:
        *tables, key = path.split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise MimiaError(
                    f"--set {name}={table} gives one value to a table of settings: name a key, {name}.KEY."
                )
        table[key] = value
    return read_settings(config, values)


def _parameters(flags: Mapping[str, str]) -> list[Any]:
    """Return the parameters that typer makes of a function with these options."""

    def command(**_: object) -> None: ...

    cast("Any", command).__signature__ = inspect.Signature(
        [
            inspect.Parameter(
                path.replace(".", "_"), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=_option(flag, path)
            )
            for flag, path in flags.items()
        ]
    )
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return typer.main.get_command(app).params


def _option(flag: str, path: str) -> Any:
    """Return the annotation of an option: type, help and default come from the field of the setting."""
    field = _field(path)
    kind, choices = _kind(field.annotation)
    text = field.description or ""
    default = field.get_default(call_default_factory=True)
    option = typer.Option(
        *flag.split(),
        help=f"{text[:1].upper()}{text[1:]}.",
        metavar=choices,
        show_default=str(default) if isinstance(default, str | int | float) else False,
        rich_help_panel="Settings",
    )
    return Annotated[kind | None, option]


def _field(path: str) -> "FieldInfo":
    from mimia.config.settings import Settings

    *tables, key = path.split(".")
    model: Any = Settings
    for name in tables:
        model = model.model_fields[name].annotation
    return cast("FieldInfo", model.model_fields[key])


def _kind(annotation: Any) -> tuple[Any, str | None]:
    """Return the type of an option, and its choices; names stand in one value, with commas between them.

    >>> _kind(int | None), _kind(Literal["a", "b"]), _kind(tuple[str, ...] | None)
    ((<class 'int'>, None), (<class 'str'>, 'a|b'), (<class 'str'>, None))
    """
    if NoneType in get_args(annotation):
        annotation = next(each for each in get_args(annotation) if each is not NoneType)
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (Union, UnionType):  # a size, which is one number or two
        return str, "N|HxW"
    if get_origin(annotation) is Literal:
        return str, "|".join(get_args(annotation))
    return (str if get_origin(annotation) is tuple else annotation), None
