"""A directory that `datasets.Dataset.save_to_disk` wrote."""

from pathlib import Path

from mimia.data.imageset import LeftOut
from mimia.data.sources.files import chosen_split, directory_and_split, one_line
from mimia.data.sources.huggingface_dataset import DatasetFiles
from mimia.runtime.errors import MimiaError

_ONE, _SEVERAL = "state.json", "dataset_dict.json"


class SavedDataset(DatasetFiles):
    """What ``save_to_disk`` wrote: ``DIRECTORY``, or ``DIRECTORY:SPLIT`` of several data sets.

    Raises:
        MimiaError: It is damaged, has no column of images, or several data sets and none is chosen.
    """

    def __init__(self, value: str | Path) -> None:
        import datasets

        found = directory_and_split(value)
        assert found is not None, "only directories are recognised"
        directory, split = found
        try:
            opened = datasets.load_from_disk(str(directory))
        except Exception as error:  # damaged files are met with many types of exception
            raise MimiaError(
                f"{directory} cannot be opened by datasets.load_from_disk ({one_line(error)}): save it again."
            ) from error
        notes: tuple[str, ...] = ()
        if isinstance(opened, datasets.DatasetDict):
            chosen, note = chosen_split(str(directory), opened, split)
            opened, notes = opened[chosen], (note,)
        super().__init__(opened, str(value), [directory])
        self.notes = (*notes, *self.notes)
        self.files = [Path(entry["filename"]) for entry in opened.cache_files]
        inside = {path.parent.resolve() for path in self.files}
        there = {path for folder in inside for path in folder.glob("*.arrow")}
        unnamed = sorted(path.name for path in there - {path.resolve() for path in self.files})
        self.unread = tuple(LeftOut(name, "a data file that state.json does not name") for name in unnamed)

    @staticmethod
    def recognise(value: object) -> bool:
        found = directory_and_split(value)
        return found is not None and any((found[0] / mark).is_file() for mark in (_ONE, _SEVERAL))
