"""Which classes and functions a pickle may name; none is looked up, but a file that names others is refused.

Three kinds are data. The first is on the lists below: containers, paths and times of Python, numbers of numpy, tensors
of torch. The second is any class, known by its capital letter, of a package that is neither Python's own nor torch, or
of those parts of torch that hold layers and optimisers: options and states of trainers are objects of such classes. The
third are the methods that mmengine keeps with its loss curves. Functions, and everything else of Python and torch, are
what a file names to run code.
"""

import re
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

_CLASS = re.compile(r"_{0,2}[A-Z]\w*(\._{0,2}[A-Z]\w*)*")
_CURVE = "mmengine.logging.history_buffer.HistoryBuffer"
_METHODS = ("min", "max", "current", "mean")  # of a curve
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_OF_PYTHON = {
    "builtins": (
        *("bool", "int", "float", "complex", "str", "bytes", "bytearray", "object", "type"),
        *("list", "tuple", "dict", "set", "frozenset", "slice", "range", "Ellipsis", "NotImplemented"),
    ),
    "collections": ("OrderedDict", "defaultdict", "Counter", "deque"),
    "argparse": ("Namespace",),
    "types": ("SimpleNamespace", "GenericAlias"),
    "pathlib": _PATHS,
    "pathlib._local": _PATHS,
    "datetime": ("date", "time", "datetime", "timedelta", "timezone"),
    "decimal": ("Decimal",),
    "fractions": ("Fraction",),
    "uuid": ("UUID",),
    "random": ("Random",),
    "functools": ("partial",),  # what it is a part of is named too
    "_codecs": ("encode",),  # how protocol 2 writes bytes
    "copyreg": ("_reconstructor", "__newobj__"),
}
_OF_NUMPY = {
    "numpy": ("dtype", "ndarray"),
    "numpy.core.multiarray": ("scalar", "_reconstruct"),
    "numpy.core.numeric": ("_frombuffer",),
    "numpy.random._pickle": ("__randomstate_ctor", "__generator_ctor", "__bit_generator_ctor"),
    "numpy.random.bit_generator": ("__pyx_unpickle_SeedSequence",),
}
_OF_TORCH = {
    "torch": ("Size", "device", "Tensor"),
    "torch._C": ("Generator",),
    "torch.serialization": ("_get_layout",),
    "torch._tensor": ("_rebuild_from_type_v2",),
    "torch.storage": ("UntypedStorage", "TypedStorage"),
    "torch.torch_version": ("TorchVersion",),
}
_ALLOWED = {
    *(f"{module}.{name}" for each in (_OF_PYTHON, _OF_NUMPY, _OF_TORCH) for module, of in each.items() for name in of),
    *(f"{_CURVE}.{method}" for method in _METHODS),
    *map(str, (value for value in vars(torch).values() if isinstance(value, torch.dtype | torch.qscheme))),
    *(f"numpy.{kind.__name__}" for kind in np.sctypeDict.values()),
}
_ALLOWED_OF_TORCH = re.compile(
    r"torch\.(cuda\.)?[A-Z]\w*Storage|torch\._utils\._rebuild_\w+|torch\.nn\.functional\.\w+|torch\._C\._nn\.\w+"
)
_CLASSES_OF_TORCH = tuple(
    f"torch.{part}."
    for part in (
        *("nn", "optim", "amp", "cuda.amp", "distributed.fsdp", "distributed.tensor", "distributed._tensor"),
        *("distributed._shard", "distributed.device_mesh", "distributed.checkpoint"),
    )
)


class ForbiddenNameError(ValueError):
    """A name of what could run code."""


@dataclass(frozen=True, slots=True)
class Named:
    """The name of a class or function.

    Attributes:
        module: Where it would be.
        name: What it would be called there, with the classes that it is in.
    """

    module: str
    name: str

    @classmethod
    def of(cls, module: str, name: str) -> "Named":
        """Return a name as Python 3 and numpy 1 have it; protocol 2 writes those of Python 2."""
        if (module, name) in NAME_MAPPING:
            module, name = NAME_MAPPING[module, name]
        module = IMPORT_MAPPING.get(module, module)
        return cls(re.sub(r"^numpy\._core\.", "numpy.core.", module), name)

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


_GETATTR, _GETITEM = Named("builtins", "getattr"), Named("_operator", "getitem")  # the only functions that are called


def judge(named: Named) -> Named:
    """Return a name that may stand in a file.

    Raises:
        ForbiddenNameError: It may not.
    """
    full, package = str(named), named.module.partition(".")[0]
    if full in _ALLOWED or named in (_GETATTR, _GETITEM) or _ALLOWED_OF_TORCH.fullmatch(full):
        return named
    if package == "torch":
        has_classes = full.startswith(_CLASSES_OF_TORCH)
    else:
        has_classes = package not in sys.stdlib_module_names or named.module == "typing"
    if not (has_classes and _CLASS.fullmatch(named.name)):
        raise ForbiddenNameError(full)
    return named


def judge_call(by: Named, arguments: Sequence[object]) -> Named | None:
    """Return the name of a method if a call stands for one, which only a curve of mmengine may, and None otherwise.

    Raises:
        ForbiddenNameError: An attribute or item of anything else is asked for.
    """
    if by == _GETATTR:
        match arguments:
            case (Named() as owner, str(method)) if str(owner) == _CURVE and method in _METHODS:
                return Named(owner.module, f"{owner.name}.{method}")
        raise ForbiddenNameError(str(by))
    if by == _GETITEM:
        match arguments:
            case (Named(module="typing"), _):  # as in typing.Dict[str, int]
                return None
        raise ForbiddenNameError(str(by))
    return None
