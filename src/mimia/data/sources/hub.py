"""What `datasets.load_dataset` opens: data sets of the hub and directories of data files."""

from pathlib import Path

from mimia.data.imageset import LeftOut
from mimia.data.sources.files import (
    PARQUET_SUFFIXES,
    chosen_split,
    directory_and_split,
    list_images,
    one_line,
    walk,
)
from mimia.data.sources.huggingface_dataset import DatasetFiles
from mimia.runtime.errors import MimiaError

_PATIENCE = 5  # seconds until the hub counts as out of reach
_DATA_FILES = frozenset({".arrow", ".tar", ".zip"})


class Hub(DatasetFiles):
    """A directory of data files, or ``NAME`` or ``NAME:SPLIT`` of the hub; by default the split ``train`` or the first.

    Raises:
        MimiaError: It cannot be opened, has no such split or no column of images, or is a directory of several splits,
            none of which is chosen, or of several kinds of data files.
    """

    def __init__(self, value: str | Path) -> None:
        import datasets

        found = directory_and_split(value)
        name, split = (str(found[0]), found[1]) if found else (str(value).partition(":")[::2])
        if found:
            self.unread = _refuse_several_kinds(found[0])
        else:
            _refuse_without_network(name)
        try:
            splits = datasets.load_dataset(name)
        # load_dataset meets unknown names, missing networks and odd files with many types of exception.
        except Exception as error:
            raise MimiaError(
                f"No images at {name!r}: it is no existing folder of images or parquet file, and "
                f"datasets.load_dataset cannot open it ({type(error).__name__}: {one_line(error)}). "
                "Check the path; without a network, pass a local folder or file."
            ) from error
        if not found and not split:
            split = "train" if "train" in splits else next(iter(splits))
        chosen, note = chosen_split(name, splits, split)
        caches = [datasets.config.HF_DATASETS_CACHE, datasets.config.HF_CACHE_HOME]
        super().__init__(splits[chosen], name, [*([found[0]] if found else []), *map(Path, caches)])
        self.notes = (note, *self.notes) if len(splits) > 1 else self.notes
        self.files = [Path(entry["filename"]) for entry in splits[chosen].cache_files]

    @staticmethod
    def recognise(value: object) -> bool:
        if (found := directory_and_split(value)) is not None:
            return bool(_data_files(found[0]))
        path = Path(value).expanduser() if isinstance(value, str | Path) else None
        if path is None or path.exists() or "://" in str(value):
            return False
        is_path = path.is_absolute() or path.suffix in PARQUET_SUFFIXES or str(value).startswith((".", "~"))
        return isinstance(value, str) and not is_path


def _data_files(directory: Path) -> list[Path]:
    return sorted(path for path, reason in walk(directory) if reason is None and path.suffix.lower() in _DATA_FILES)


def _refuse_several_kinds(directory: Path) -> tuple[LeftOut, ...]:
    """Return what `datasets` will not read there; it reads one kind of file, and passes over the others."""
    files = _data_files(directory)
    kinds = sorted({path.suffix.lower() for path in files})
    if len(kinds) > 1:
        raise MimiaError(f"{directory} has files of the kinds {', '.join(kinds)}: pass a folder with one of them.")
    return tuple(entry for entry in list_images(directory).unread if Path(entry.name).suffix.lower() not in _DATA_FILES)


def _refuse_without_network(name: str) -> None:
    """Raise at once if the hub is out of reach, where `datasets` would try for half a minute."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(name, timeout=_PATIENCE)
    except (HfHubHTTPError, ValueError):
        return  # an answer, or no name: `datasets` says what is wrong
    except Exception as error:  # refused, no answer, no such host: each has an error of its own
        raise MimiaError(
            f"No images at {name!r}: it is no existing folder of images or parquet file, and the hub is out of reach: "
            "check the path, or set HF_HUB_OFFLINE=1 to use the copy of an earlier run."
        ) from error
