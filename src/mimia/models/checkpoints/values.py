"""Plain values of what a pickle describes: dictionaries, lists, texts, numbers and tensors.

What a layout may want to know of a training stands in objects of many libraries. Options of argparse stay a
`Namespace`; those of OmegaConf, yacs, EasyDict, ml_collections and mmengine become dictionaries, paths become texts,
and numbers of numpy those of Python. An object of another class becomes a dictionary of its attributes if it has any,
and otherwise stays a description, which nobody reads.
"""

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from mimia.models.checkpoints.names import Named
from mimia.models.checkpoints.pickles import DamagedError, Made
from mimia.models.checkpoints.storages import Storages

_DTYPES = {str(value): value for value in vars(torch).values() if isinstance(value, torch.dtype)}
_MOST_NUMBERS = 4096  # of an array that becomes a list
_AROUND_A_TENSOR = ("_rebuild_parameter", "_rebuild_parameter_with_state", "_rebuild_device_tensor_from_cpu_tensor")
_PLAIN_TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer")
_CONTENT = {  # where classes of these modules keep what they are about
    "omegaconf": ("_content", "_val"),
    "ml_collections": ("_fields", "_value"),
}


def is_module(value: object) -> bool:
    """Return whether a value describes a whole model of torch, with its code."""
    return isinstance(value, Made) and isinstance(value.state, dict) and "_parameters" in value.state


class Values:
    """Makes plain values; one that stands in several places is made once.

    Args:
        storages: The numbers of the file.
    """

    def __init__(self, storages: Storages) -> None:
        self._storages = storages
        self._done: dict[int, tuple[object, object]] = {}  # with what it is of, so that no other takes its place

    def plain(self, value: Any) -> Any:
        """Return the plain value of what a pickle describes.

        Raises:
            DamagedError: A tensor does not fit its numbers.
        """
        if isinstance(value, Named):
            return str(value)
        if not isinstance(value, dict | list | tuple | Made):
            return value
        if id(value) not in self._done:
            self._done[id(value)] = (value, value)  # for what refers to itself
            self._done[id(value)] = (value, self._made(value) if isinstance(value, Made) else self._container(value))
        return self._done[id(value)][1]

    def _container(self, value: Any) -> object:
        """Return a dictionary, list or tuple of plain values; only a tuple is another than before."""
        if isinstance(value, tuple):
            return tuple(map(self.plain, value))
        for key, each in list(value.items() if isinstance(value, dict) else enumerate(value)):
            value[key] = self.plain(each)
        return value

    def _made(self, made: Made) -> object:
        name = str(made.by)
        if name.startswith(("torch._utils._rebuild_", "torch._tensor._rebuild_")):
            return self._tensor(made)
        read = _READ.get(name)
        if read is None and is_module(made):
            return made
        content = _CONTENT.get(made.by.module.partition(".")[0], ())
        if content and isinstance(made.state, dict):  # without what refers back to the whole
            made.state = {key: each for key, each in made.state.items() if key in content}
        made.arguments, made.state = self.plain(made.arguments), self.plain(made.state)
        self._container(made.items)
        self._container(made.entries)
        if read is None:
            return _of_attributes(made)
        try:
            return read(made)
        except (ValueError, TypeError, LookupError, AttributeError):  # another version of its library made it
            return made

    def _tensor(self, made: Made) -> object:
        """Return a tensor, or the description of one that is no plain array."""
        arguments, function = made.arguments, made.by.name
        if function in _AROUND_A_TENSOR:
            return self.plain(arguments[0])
        if function == "_rebuild_from_type_v2" and str(arguments[1]) in _PLAIN_TENSORS:
            by, _, inner, _ = arguments
            return self.plain(Made(by, inner)) if isinstance(by, Named) and isinstance(inner, tuple) else made
        if function in ("_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_tensor_v3"):
            stored, offset, size, stride = arguments[:4]
            dtype = _DTYPES[str(arguments[6])] if function == "_rebuild_tensor_v3" else None
            return self._storages.tensor(stored, offset, (self.plain(size), self.plain(stride)), dtype)
        return made


def _of_attributes(made: Made) -> object:
    """Return the plain value of an object of a class that is not known."""
    if made.entries:
        return made.entries
    if made.items:
        return made.items
    state = made.state
    if isinstance(state, tuple) and len(state) == 2 and all(isinstance(each, dict | None) for each in state):
        state = (state[0] or {}) | (state[1] or {})  # of attributes and slots
    if isinstance(state, dict):
        if made.by.module.partition(".")[0] in _CONTENT and len(state) == 1:
            return next(iter(state.values()))
        found = state.get("__dict__", state)
        return {key: value for key, value in found.items() if not str(key).startswith("__")}
    match made.arguments:
        case (dict() as entries,):
            return entries
        case (str() | int() | float() as value,):  # such as the value of an enumeration
            return value
        case () if state is None:
            return {}  # an empty dictionary of a class of its own
    return made


def _dictionary(made: Made) -> dict[Any, Any]:
    match made.arguments:
        case (dict() as first,):
            return {**first, **made.entries}
        case (list() as pairs,):
            return {**dict(pairs), **made.entries}
    return made.entries


def _list(made: Made) -> list[Any]:
    return [*(made.arguments[0] if made.arguments and isinstance(made.arguments[0], list) else ()), *made.items]


def _bytes(made: Made) -> bytes:
    match made.arguments:
        case (str(text), str(encoding)) if encoding in ("latin1", "latin-1"):
            return text.encode("latin1")
        case (bytes() | bytearray() as content,):
            return bytes(content)
        case ():
            return b""
    raise DamagedError("the bytes are in another form")


def _namespace(made: Made) -> Namespace:
    return Namespace(**made.state) if isinstance(made.state, dict) else Namespace()


def _path(made: Made) -> str:
    kind = PureWindowsPath if "Windows" in made.by.name else PurePosixPath
    return str(kind(*map(str, made.arguments)))


def _device(made: Made) -> str:
    return ":".join(map(str, made.arguments))


def _array(dtype: object, content: object) -> "np.ndarray[Any, Any]":
    """Return the numbers of a description of numpy, in one row."""
    if not isinstance(dtype, Made) or not isinstance(dtype.state, tuple):
        raise DamagedError("it has no type")
    code, order = str(dtype.arguments[0]), str(dtype.state[1])
    if not re.fullmatch(r"[<>=|]([biuf][1248]|U\d{1,3})", order + code):
        raise DamagedError("it holds no plain numbers")
    if isinstance(content, str):  # of Python 2
        content = content.encode("latin1")
    if not isinstance(content, bytes | bytearray) or len(content) > _MOST_NUMBERS * 8:
        raise DamagedError("it is large")
    return np.frombuffer(content, np.dtype(order + code))


def _scalar(made: Made) -> object:
    dtype, content = made.arguments
    return _array(dtype, content)[0].item()


def _reconstructed(made: Made) -> object:
    match made.state:
        case (_, tuple(shape), dtype, by_columns, content):
            return _array(dtype, content).reshape(shape, order="F" if by_columns else "C").tolist()
    return made


def _from_buffer(made: Made) -> object:
    match made.arguments:
        case (content, dtype, tuple(shape), "C" | "F" as order):
            return _array(dtype, content).reshape(shape, order=order).tolist()
    return made


def _first_of_state(made: Made) -> object:
    return made.state[0] if isinstance(made.state, tuple) and made.state else made


_DICTIONARIES = ("collections.OrderedDict", "collections.defaultdict", "collections.Counter", "builtins.dict")
_READ: Mapping[str, Callable[[Made], object]] = {
    **dict.fromkeys(_DICTIONARIES, _dictionary),
    **dict.fromkeys(("collections.deque", "builtins.set", "builtins.frozenset", "builtins.list"), _list),
    **dict.fromkeys(("_codecs.encode", "builtins.bytes", "builtins.bytearray"), _bytes),
    "argparse.Namespace": _namespace,
    "torch.device": _device,
    "torch.Size": lambda made: made.arguments[0],
    "numpy.core.multiarray.scalar": _scalar,
    "numpy.core.multiarray._reconstruct": _reconstructed,
    "numpy.core.numeric._frombuffer": _from_buffer,
    "numpy.dtype": lambda made: made,
    **dict.fromkeys(("mmengine.config.config.Config", "mmcv.utils.config.Config"), _first_of_state),
    **{
        f"{module}.{name}": _path
        for module in ("pathlib", "pathlib._local")
        for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
    },
}
