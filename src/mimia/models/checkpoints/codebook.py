"""The tokenizer of a BEiT, a model of its own: DALL-E's encoder, as transformers has it for FLAVA."""

from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from mimia.models.base import ModelSpec
from mimia.models.checkpoints.strict import fill
from mimia.models.checkpoints.transformers_directory import load_weights, open_directory
from mimia.models.tokenizer import Tokenizer, TokenizerArchitecture, make_tokenizer
from mimia.runtime.errors import MimiaError


class Codebook(NamedTuple):
    """A tokenizer as it stands in a directory.

    Attributes:
        path: The directory.
        architecture: Vocabulary and configuration.
        weights: By their names in transformers' class.
        files: What the weights were read from.
    """

    path: Path
    architecture: TokenizerArchitecture
    weights: dict[str, Tensor]
    files: tuple[Path, ...]


def read_codebook(source: str) -> Codebook:
    """Read a directory of transformers' ``FlavaImageCodebook``, or a name on the hub.

    Raises:
        MimiaError: It cannot be found, or is of another class.
    """
    from transformers import FlavaImageCodebook, FlavaImageCodebookConfig

    directory = open_directory(source)
    if directory.architecture != "FlavaImageCodebook":
        raise MimiaError(
            f"{directory.path} is no tokenizer: pass a directory of FlavaImageCodebook, or the name "
            "facebook/flava-image-codebook."
        )
    architecture = TokenizerArchitecture(
        kind="dalle",
        vocabulary=directory.parsed(FlavaImageCodebookConfig).vocab_size,
        config=directory.settings("vocab_size"),
    )
    weights = load_weights(directory, FlavaImageCodebook)
    return Codebook(directory.path, architecture, weights, tuple(directory.files()))


def open_tokenizer(source: str, spec: ModelSpec) -> Tokenizer:
    """Open a tokenizer, for a BEiT that is pre-trained here.

    Args:
        source: A directory of ``FlavaImageCodebook``, or a name on the hub.
        spec: Images whose patches it gives tokens of.

    Raises:
        MimiaError: It cannot be found, is of another class, or lacks weights.
    """
    codebook = read_codebook(source)
    weights = {f"codebook.{name}": value for name, value in codebook.weights.items()}
    tokenizer = fill(make_tokenizer(spec, codebook.architecture), weights, str(codebook.path), "its config.json")
    return tokenizer.requires_grad_(False)
