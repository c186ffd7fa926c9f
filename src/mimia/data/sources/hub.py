"""What `datasets.load_dataset` opens: data sets of the hub and directories of data files."""

from functools import cached_property
from pathlib import Path

from mimia.data.sources.files import fingerprint_of_files, one_line
from mimia.data.sources.huggingface_dataset import HuggingFaceDataset
from mimia.runtime.errors import MimiaError

_PATIENCE = 5  # seconds until the hub counts as out of reach
_DATA_FILES = frozenset({".parquet", ".arrow", ".tar", ".zip"})


class Hub(HuggingFaceDataset):
    """A directory of data files, or ``NAME`` or ``NAME:SPLIT`` of the hub; by default the split ``train`` or the first.

    Raises:
        MimiaError: It cannot be opened, or has no such split or no column of images.
    """

    channels = 3

    def __init__(self, value: str | Path) -> None:
        import datasets

        path = Path(value).expanduser()
        name, _, split = (str(path), "", "") if path.is_dir() else str(value).partition(":")
        if not path.is_dir():
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
        split = split or ("train" if "train" in splits else next(iter(splits)))
        if split not in splits:
            raise MimiaError(f"{name} has no split {split!r}, but only: {', '.join(splits)}.")
        super().__init__(splits[split], name)
        self._files = [Path(entry["filename"]) for entry in splits[split].cache_files]

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint_of_files(self._files, Path("/"))

    @staticmethod
    def recognise(value: object) -> bool:
        if not isinstance(value, str | Path):
            return False
        path = Path(value).expanduser()
        if path.exists():
            return any(file.suffix in _DATA_FILES for file in path.rglob("*"))
        is_path = path.is_absolute() or path.suffix == ".parquet" or str(value).startswith((".", "~"))
        return isinstance(value, str) and not is_path


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
