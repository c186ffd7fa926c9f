"""Models on the Hugging Face hub, as directories on this machine."""

import re
from pathlib import Path

from mimia.runtime.errors import MimiaError

_PATIENCE = 5  # seconds until the hub counts as out of reach


def is_hub_name(text: str) -> bool:
    """Return whether a text is a name on the hub, OWNER/NAME, and not meant to be a file.

    >>> is_hub_name("facebook/vit-mae-base"), is_hub_name("runs/mae.pth"), is_hub_name("/data/mae")
    (True, False, False)
    """
    return bool(re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", text)) and Path(text).suffix not in (
        ".pth",
        ".pt",
        ".tar",
        ".bin",
        ".ckpt",
        ".safetensors",
    )


def fetch(name: str) -> Path:
    """Return the directory of a model of the hub: downloaded, or from the cache if the hub is out of reach.

    Raises:
        MimiaError: It is neither here nor to be had.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    pickled = False
    try:
        # The download itself would wait for ever for a hub that does not answer.
        files = HfApi().model_info(name, timeout=_PATIENCE).siblings or []
        pickled = not any(file.rfilename.endswith(".safetensors") for file in files)
        reachable = True
    except RepositoryNotFoundError as error:
        raise MimiaError(
            f"There is neither a directory {name} here nor a model of this name on the hub: check the name, or set "
            "HF_TOKEN if the model is private."
        ) from error
    except Exception:  # refused, no answer, turned off: each has an error of its own
        reachable = False
    patterns = ["*.json", "*.bin" if pickled else "*.safetensors"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=not reachable))
    except OSError as error:
        if reachable:
            raise MimiaError(
                f"{name} cannot be fetched from the hub ({str(error).splitlines()[0]}): set HF_TOKEN if it is gated, "
                "and see that the disk has room."
            ) from error
        raise MimiaError(
            f"There is no directory {name} here, the hub is out of reach or turned off (HF_HUB_OFFLINE), and its cache "
            f"does not have the model: run `hf download {name} --local-dir DIR` where there is a network, and pass DIR."
        ) from error
