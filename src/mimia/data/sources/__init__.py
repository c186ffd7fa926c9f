"""Image sources: what a user may name or pass as images, one module each.

Each yields images in a fixed order, encoded or as Pillow's, and all go through one way of decoding.
"""

from pathlib import Path

from mimia.data.sources.base import Source, SourceLike
from mimia.runtime.errors import MimiaError
from mimia.runtime.registry import Registry

SOURCES: Registry[type[Source]] = Registry(
    "image source",
    "mimia.sources",
    {
        "hub": "mimia.data.sources.hub:Hub",
        "torch_dataset": "mimia.data.sources.torch_dataset:TorchDataset",
        "huggingface_dataset": "mimia.data.sources.huggingface_dataset:HuggingFaceDataset",
        "arrays": "mimia.data.sources.arrays:Arrays",
        "folder": "mimia.data.sources.folder:Folder",
        "parquet": "mimia.data.sources.parquet:Parquet",
        "npy": "mimia.data.sources.npy:Npy",
        "saved_dataset": "mimia.data.sources.saved_dataset:SavedDataset",
        "remote": "mimia.data.sources.remote:Remote",
        "digits": "mimia.data.sources.digits:Digits",
    },
)
"""The last one that recognises a value opens it: the general stand first, and other packages' come after all these."""


def open_source(images: SourceLike) -> Source:
    """Open a source of images.

    Args:
        images: ``digits``; a folder of images; a parquet file, or a folder of some; a ``.npy`` file of a stack of
            images; what ``save_to_disk`` of `datasets` wrote; a directory of other data files that
            `datasets.load_dataset` opens; ``NAME`` or ``NAME:SPLIT`` of the hub; or the URL of a file or a folder that
            fsspec opens. A folder with several splits takes ``:SPLIT`` too.
            Or images in memory: a uint8 array, (N, H, W), (N, H, W, C) or (N, C, H, W), a list of PIL images or of
            uint8 arrays, a `datasets.Dataset`, or a torch `Dataset` of images or of pairs of an image and a label.

    Raises:
        MimiaError: There are no images there, or the value is of none of these kinds.

    >>> len(open_source("digits"))
    1797
    """
    if isinstance(images, str) and not images:
        raise MimiaError("The source of images is empty: is a variable of the shell not set?")
    for source in reversed(list(SOURCES.values())):
        if source.recognise(images):
            return source(images)
    if isinstance(images, str | Path):
        raise MimiaError(_why_not(images))
    raise MimiaError(
        f"Images cannot be read from a value of type {type(images).__name__}: pass a path, a uint8 array, a list of "
        "PIL images, a datasets.Dataset, or a torch Dataset with a length."
    )


def _why_not(text: str | Path) -> str:
    path = Path(text).expanduser()
    if path.is_file():
        return f"{text} is a file, but neither a folder of images nor a parquet file or a .npy file."
    if path.exists() and not path.is_dir():
        return f"{text} is not a regular file, but a pipe or a device: pass a folder of images or a parquet file."
    if path.is_dir():
        return f"There are no image files (.png, .jpg, .tif, .webp or others) in the folder {text}: pass another."
    return f"{text} does not exist: pass a folder of images or a parquet file."
