"""What a checkpoint layout declares, and the list of those that are known."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.safe import Contents
from mimia.runtime.registry import Registry

if TYPE_CHECKING:  # it imports layouts
    from mimia.models.checkpoints.transformers_directory import Directory


@dataclass(frozen=True)
class FileLayout:
    """A layout of single files.

    Attributes:
        recognise: Whether a file is of this layout, by the names of its weights.
        read: Returns the model that the file describes. Raises `MimiaError` if it describes none.
    """

    recognise: Callable[[Collection[str]], bool]
    read: Callable[[Contents, CheckpointSettings], ParsedCheckpoint]


@dataclass(frozen=True)
class DirectoryLayout:
    """A layout of directories with a ``config.json``.

    Attributes:
        recognise: Whether a directory is of this layout, by the content of ``config.json``.
        read: Returns the model that the directory describes. Raises `MimiaError` if it describes none.
        export: Returns a model of transformers with the same weights, for families that are exported to this layout.
    """

    recognise: Callable[[Mapping[str, Any]], bool]
    read: Callable[["Directory", CheckpointSettings], ParsedCheckpoint]
    export: Callable[[Any], Any] | None = None


LAYOUTS: Registry[FileLayout | DirectoryLayout] = Registry(
    "checkpoint layout",
    "mimia.layouts",
    {  # the first that recognises a checkpoint reads it
        "transformers-mae": "mimia.models.checkpoints.transformers_mae:LAYOUT",
        "transformers-masked": "mimia.models.checkpoints.transformers_masked:LAYOUT",
        "timm": "mimia.models.checkpoints.timm:LAYOUT",
        "mmpretrain": "mimia.models.checkpoints.mmpretrain:LAYOUT",
        "official-simmim": "mimia.models.checkpoints.official_simmim:LAYOUT",
        "official-mae": "mimia.models.checkpoints.official_mae:LAYOUT",
    },
)


def any_starts_with(prefix: str) -> Callable[[Collection[str]], bool]:
    """Return a function that says whether any of some names starts with a prefix."""
    return lambda names: any(name.startswith(prefix) for name in names)
