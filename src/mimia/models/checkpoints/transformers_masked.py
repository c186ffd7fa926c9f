"""Directories of transformers' classes for masked-image modeling other than MAE: ``…ForMaskedImageModeling``.

Encoders of BEiT and Swin alone open too. transformers has the same classes for supervised ones, so that it is noted
where nothing shows that an encoder is of masked-image modeling.
"""

import re
from collections.abc import Mapping
from typing import Any, get_args

from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import ModelSpec
from mimia.models.beit import BEiTArchitecture
from mimia.models.checkpoints.checkpoint_facts import UNMASKED_ENCODER, CheckpointFacts
from mimia.models.checkpoints.codebook import read_codebook
from mimia.models.checkpoints.layout import DirectoryLayout
from mimia.models.checkpoints.parsed import ParsedCheckpoint
from mimia.models.checkpoints.saved_settings import SavedSettings
from mimia.models.checkpoints.transformers_directory import Directory, class_name, load_weights
from mimia.models.huggingface import HuggingFaceArchitecture, ModelType, configuration
from mimia.models.tokenizer import TokenizerArchitecture
from mimia.runtime.errors import MimiaError

_UNSHIFTED = (5, 9)
"""Version of transformers from which on a DeiT predicts each patch from its own token."""
_BEIT_MASKED = 75 / 196  # of the official BEiT (arXiv 2106.08254)
_ENCODERS = {"BeitModel": "model.beit.", "BeitForImageClassification": "model.", "SwinModel": "model.swin."}
"""Classes of encoders alone, and what is put before the names of their weights."""
_UNUSED = r"(^|\.)(pooler|classifier)\."  # parts of such a class that are no part of the encoder
_MASKED_PATCH = "embeddings.mask_token"


def recognise(config: Mapping[str, Any]) -> bool:
    """Return whether a directory holds a masked-image model of a class that lives in transformers alone."""
    name = class_name(config)
    if name in _ENCODERS:
        return config.get("model_type") in ("beit", "swin")
    return name.endswith("ForMaskedImageModeling") and config.get("model_type") in (*get_args(ModelType), "beit")


def read(directory: Directory, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a directory of a class that lives in transformers alone.

    Raises:
        MimiaError: Its weights are not those that its configuration asks for, or that
            contradicts itself.
    """
    facts = CheckpointFacts(directory.path, {}, SavedSettings(directory.place, directory.said()), given)
    return _read_beit(directory, facts) if directory.config["model_type"] == "beit" else _read_wrapped(directory, facts)


def _read_wrapped(directory: Directory, facts: CheckpointFacts) -> ParsedCheckpoint:
    kind, config = _class_and_config(directory)
    patch = directory.square("patch_size", config.patch_size)
    stride = patch * 2 ** (len(getattr(config, "depths", [0])) - 1)  # side of a last token in pixels
    alone = directory.architecture in _ENCODERS
    if not alone and config.encoder_stride != stride:
        raise MimiaError(
            f"{directory.path} has encoder_stride = {config.encoder_stride}, but its last tokens have a side of "
            f"{stride} pixels: correct its config.json."
        )
    spec = _spec(directory, facts, config, facts.simmim_masks(patch) | {"visible": not alone})
    state = _encoder(directory, kind, facts, use_mask_token=True) if alone else _whole(directory, kind)
    architecture = facts.architecture(
        HuggingFaceArchitecture,
        model_type=directory.config["model_type"],
        config=directory.settings(*configuration(spec, {})) | ({"encoder_stride": stride} if alone else {}),
        decoder=not alone,
        mask_token=_has_mask_token(state),
        shifted=not alone and directory.config["model_type"] == "deit" and _is_shifted(directory, facts),
    )
    return facts.parsed(f"transformers {directory.architecture}", spec, architecture, state=state)


def _is_shifted(directory: Directory, facts: CheckpointFacts) -> bool:
    """Return whether a DeiT was trained to predict each patch from the token before its own."""
    written = re.match(r"(\d+)\.(\d+)", str(directory.config.get("transformers_version")))
    if written is None:
        facts.remarks.append(
            "config.json has no transformers_version: each patch is predicted from its own token, as from 5.9 on, and "
            "not from the one before"
        )
    return written is not None and (int(written[1]), int(written[2])) < _UNSHIFTED


def _read_beit(directory: Directory, facts: CheckpointFacts) -> ParsedCheckpoint:
    """Read a BEiT, with its decoder only if it and the tokenizer are there, which is a model of its own.

    Raises:
        MimiaError: A tokenizer is given for an encoder alone, or of another vocabulary.
    """
    kind, config = _class_and_config(directory)
    reason = "proportion of masked patches is the official BEiT's 75 of 196, which the file does not say"
    ratio = facts.or_else("mask_ratio", _BEIT_MASKED, reason)
    masks = {"masking": "blockwise", "mask_ratio": ratio, "target_space": "tokens"}
    spec = _spec(directory, facts, config, masks | {"visible": facts.given.tokenizer is not None})
    alone = directory.architecture in _ENCODERS
    if alone and facts.given.tokenizer is not None:
        raise MimiaError(
            f"{directory.path} holds an encoder alone, which predicts no tokens: leave out checkpoint.tokenizer."
        )
    state = _encoder(directory, kind, facts) if alone else _whole(directory, kind)
    tokenizer = TokenizerArchitecture(kind="dalle", vocabulary=config.vocab_size)
    codebook = None if facts.stated("tokenizer") is None else read_codebook(facts.stated("tokenizer"))
    if codebook is None and not alone:
        state = {name: value for name, value in state.items() if name.startswith("model.beit.")}
        facts.remarks.append(
            "without its tokenizer (--set checkpoint.tokenizer=facebook/flava-image-codebook, or a directory) nobody "
            "knows what a BEiT should predict: it is taken as an encoder alone"
        )
    elif codebook is not None:
        if codebook.architecture.vocabulary != config.vocab_size:
            raise MimiaError(
                f"{codebook.path} is no tokenizer of {config.vocab_size} tokens, as {directory.path} predicts: pass a "
                "directory of FlavaImageCodebook with as many."
            )
        tokenizer = codebook.architecture
        state |= {f"tokenizer.codebook.{name}": value for name, value in codebook.weights.items()}
    architecture = facts.architecture(
        BEiTArchitecture,
        config=directory.settings(*configuration(spec, {}), "vocab_size", "use_mask_token"),
        tokenizer=tokenizer,
        decoder=codebook is not None,
        mask_token=_has_mask_token(state),
    )
    also = codebook.files if codebook else ()
    return facts.parsed(f"transformers {directory.architecture}", spec, architecture, state=state, also=also)


def _whole(directory: Directory, kind: Any) -> dict[str, Tensor]:
    return {f"model.{name}": value for name, value in load_weights(directory, kind).items()}


def _encoder(directory: Directory, kind: Any, facts: CheckpointFacts, **options: Any) -> dict[str, Tensor]:
    """Return the weights of an encoder alone, and note what does not show that it is of masked-image modeling."""
    weights = load_weights(directory, kind, rf"{_UNUSED}|{_MASKED_PATCH}$", **options)
    kept = {name: value for name, value in weights.items() if not re.search(_UNUSED, name)}
    if directory.architecture == "BeitForImageClassification":
        facts.remarks.append(
            "a classification head is left out; that the encoder was not changed when the head was trained is assumed"
        )
    prefix = _ENCODERS[directory.architecture]
    state = {f"{prefix}{name}": value for name, value in kept.items()}
    if not _has_mask_token(state):
        facts.remarks.append(UNMASKED_ENCODER)
    return state


def _has_mask_token(state: Mapping[str, Tensor]) -> bool:
    return any(name.endswith(_MASKED_PATCH) for name in state)


def _class_and_config(directory: Directory) -> tuple[Any, Any]:
    import transformers

    kind: Any = getattr(transformers, directory.architecture, None)
    if kind is None:
        raise MimiaError(f"{directory.path} holds a {directory.architecture}, which this transformers lacks.")
    return kind, directory.parsed(kind.config_class)


def _spec(directory: Directory, facts: CheckpointFacts, config: Any, masks: dict[str, Any]) -> ModelSpec:
    return facts.spec(
        config.num_channels,
        image_size=directory.square("image_size", config.image_size),
        patch_size=directory.square("patch_size", config.patch_size),
        **masks,
    )


LAYOUT = DirectoryLayout(recognise, read)
