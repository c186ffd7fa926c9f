"""Hyper-parameters of attacks, checked against the annotations of their ``__init__``."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened


def validated(attack: str, make: Callable[..., object], options: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyper-parameters with the types that the attack declares.

    Args:
        attack: Its name, for the error.
        make: The class.
        options: Hyper-parameters by name.

    Raises:
        MimiaError: The attack has no such hyper-parameter, or does not take its value.
    """
    parameters = inspect.signature(make).parameters
    checked = {}
    for option, value in options.items():
        if option not in parameters:
            there = f"it has {', '.join(parameters)}" if parameters else "it has none"
            raise MimiaError(f"The attack {attack!r} has no hyper-parameter {shortened(option)!r}: {there}.")
        declared = parameters[option].annotation
        wanted = Any if declared is inspect.Parameter.empty else declared
        kind: TypeAdapter[Any] = TypeAdapter(wanted, config=ConfigDict(allow_inf_nan=False))
        try:
            checked[option] = kind.validate_python(value)
        except ValidationError as error:
            raise MimiaError(
                f"The hyper-parameter {option!r} of the attack {attack!r} cannot be {shortened(repr(value))}: "
                f"{error.errors()[0]['msg']}. Its hyper-parameters are {', '.join(parameters)}."
            ) from error
    return checked
