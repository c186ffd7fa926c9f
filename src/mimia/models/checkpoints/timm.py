"""Directories of timm: a file with the names of the official MAE, and the pixel statistics in ``config.json``."""

import re
from collections.abc import Mapping

from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import official_mae
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.layout import DirectoryLayout
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.safe import read_contents
from mimia.models.checkpoints.saved_settings import SavedSettings, as_size, table
from mimia.models.checkpoints.transformers_directory import Directory
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

_OF_MAE = "mae"
_SIZES = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12), "large": (1024, 16), "huge": (1280, 16)}
"""Width and heads of timm's architectures."""


def read(directory: Directory, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a directory of timm, of which only Vision Transformers are known (``vit_*.mae``).

    Raises:
        MimiaError: It is another model, or one that was trained otherwise, as its tag says.
    """
    contents = read_contents(directory.files()[0])
    name = str(directory.config["architecture"])
    pixels, sizes = (table(directory.config, key) for key in ("pretrained_cfg", "model_args"))
    tag = str(pixels.get("tag") or name.partition(".")[2])
    if _OF_MAE not in re.split(r"[._]", tag):
        how = f"is tagged {shortened(tag, 40)!r}" if tag else "does not say how it was trained"
        raise MimiaError(
            f"{directory.path} {how}, and only models of timm that are tagged {_OF_MAE!r} were trained by masked image "
            "modeling: shadow models would not resemble it; give any other encoder as a function, with --embeddings."
        )
    model = {
        "mean": pixels.get("mean"),
        "std": pixels.get("std"),
        "image_size": as_size(sizes.get("img_size", pixels.get("input_size"))),
        "heads": sizes.get("num_heads", _heads_of(name, contents.state)),
    }
    saved = SavedSettings("its config.json", {key: value for key, value in model.items() if value is not None})
    facts = CheckpointFacts(contents.path, contents.state, saved, given)
    return official_mae.read_facts(facts, f"timm {name}, MAE", is_known_mae=True)


def _heads_of(name: str, state: Mapping[str, Tensor]) -> int | None:
    """Return the heads of an architecture of timm by its name, if the weights have its width."""
    width, heads = next((sizes for size, sizes in _SIZES.items() if name.startswith(f"vit_{size}_")), (0, 0))
    patches = state.get("patch_embed.proj.weight")
    return heads if patches is not None and len(patches) == width else None


LAYOUT = DirectoryLayout(lambda config: "architecture" in config, read)
