"""Directories of timm: a file with the names of the official MAE, and the pixel statistics in ``config.json``."""

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import official_mae
from mimia.models.checkpoints.layout import DirectoryLayout
from mimia.models.checkpoints.parsed import CheckpointFacts, ParsedCheckpoint
from mimia.models.checkpoints.safe import read_contents
from mimia.models.checkpoints.transformers_directory import Directory


def read(directory: Directory, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a directory of timm, of which only Vision Transformers are known (``vit_*.mae``).

    Raises:
        MimiaError: It is another model, or a supervised one.
    """
    contents = read_contents(directory.files()[0])
    pixels = directory.config.get("pretrained_cfg", {})
    said = {"mean": pixels.get("mean"), "std": pixels.get("std")}
    facts = CheckpointFacts(contents.path, contents.state, said, given)
    return official_mae.read_facts(facts, f"timm {directory.config['architecture']}, MAE")


LAYOUT = DirectoryLayout(lambda config: "architecture" in config, read)
