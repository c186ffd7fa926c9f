"""Registries: names that stand for things which are imported when they are first used.

A built-in entry is one line, ``"name": "module:attribute"``. Other packages add theirs by an entry point of the
registry's group, as pytest's and fsspec's plug-ins do.
"""

from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from mimia.runtime.errors import MimiaError

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things of one kind by name, built in or from other packages' entry points.

    Args:
        noun: What an error calls one of them.
        group: Group of the entry points.
        builtin: Import path, ``module:attribute``, by name.

    >>> codecs = Registry("codec", "example.codecs", {"json": "json:dumps"})
    >>> dumps = codecs["json"]
    >>> dumps([1])
    '[1]'
    """

    def __init__(self, noun: str, group: str, builtin: Mapping[str, str]) -> None:
        self._noun = noun
        self._group = group
        self._builtin = dict(builtin)
        self._loaded: dict[str, T] = {}

    @cached_property
    def _points(self) -> dict[str, EntryPoint]:
        """Entry points by name, those that are built in first.

        Raises:
            MimiaError: Two have the same name.
        """
        points = {name: EntryPoint(name, path, self._group) for name, path in self._builtin.items()}
        for point in entry_points(group=self._group):
            if point.name in points:
                raise MimiaError(
                    f"Two packages register the {self._noun} {point.name!r} ({points[point.name].value} and "
                    f"{point.value}): uninstall one of them."
                )
            points[point.name] = point
        return points

    def __getitem__(self, name: str) -> T:
        """Return what the name stands for.

        Raises:
            KeyError: The name is not registered.
        """
        if name not in self._loaded:
            self._loaded[name] = self._points[name].load()
        return self._loaded[name]

    def find(self, name: str) -> T:
        """Return what the name stands for.

        Raises:
            MimiaError: The name is not registered.
        """
        if name not in self:
            raise MimiaError(f"There is no {self._noun} {name!r}: choose one of {', '.join(self)}.")
        return self[name]

    def __contains__(self, name: object) -> bool:
        return name in self._points

    def __iter__(self) -> Iterator[str]:
        return iter(self._points)

    def __len__(self) -> int:
        return len(self._points)
