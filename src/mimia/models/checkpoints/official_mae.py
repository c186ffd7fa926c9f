"""Files of the official MAE (facebookresearch/mae), and of others that keep its names, such as timm.

There are three kinds of released files. ``mae_pretrain_*`` has no decoder. ``mae_pretrain_*_full`` has one that
predicts patches normalised by their own mean and variance; ``mae_visualize_*`` has one that predicts pixels as they
are. The two have the same keys and shapes: the arguments of the training tell, where the file holds them, or else the
pixels.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import TargetSpace
from mimia.models.checkpoints.attention_heads import attention_heads
from mimia.models.checkpoints.checkpoint_facts import CheckpointFacts
from mimia.models.checkpoints.grids import grid_of_positions
from mimia.models.checkpoints.layout import FileLayout, any_starts_with
from mimia.models.checkpoints.parsed import WHERE_IS_THE_DECODER, ParsedCheckpoint
from mimia.models.checkpoints.provenance import UnknownFact
from mimia.models.checkpoints.safe import Contents
from mimia.models.checkpoints.saved_settings import from_arguments
from mimia.models.mae import MAEArchitecture

_BY_NAME: dict[str, TargetSpace] = {"full": "patch-normalised", "visualize": "normalised"}
_IN_WORDS: dict[str, TargetSpace] = {"pixels as they are": "normalised", "patches normalised": "patch-normalised"}


def read(contents: Contents, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a file of the official MAE.

    Raises:
        MimiaError: Its sizes cannot be read or contradict each other.
    """
    saved = from_arguments(contents.beside)
    facts = CheckpointFacts(contents.path, contents.state, saved, given)
    return read_facts(facts, "official MAE", is_known_mae="mask_ratio" in saved.model or "target_space" in saved.model)


def read_facts(facts: CheckpointFacts, maker: str, *, is_known_mae: bool = False) -> ParsedCheckpoint:
    """Read weights that have the names of the official MAE.

    Args:
        facts: What is known of the model.
        maker: Whose layout it was, for a person.
        is_known_mae: Whether something beside the names says that it was trained as an MAE.

    Raises:
        MimiaError: As for `read`.
    """
    facts.refuse_heads()
    width, channels, patch = facts.patches("patch_embed.proj.weight")
    has_decoder = facts.has("decoder_")
    facts.state = _in_our_names(facts.state)
    has_class = "cls_token" in facts.state
    rows, columns, before = grid_of_positions(facts, "pos_embed", (1, 0) if has_class else (0,), patch)
    sizes: dict[str, Any] = {
        "width": width,
        "depth": facts.depth("blocks"),
        "heads": attention_heads(facts, "heads", width, visible=has_decoder),
        "class_token": has_class,
        "class_position": before == has_class,
        "registers": facts.shape("reg_token", 3)[1] if "reg_token" in facts.state else 0,
        "layer_scale": facts.has("blocks.0.ls1."),
    }
    if has_decoder:
        sizes["decoder_width"] = facts.shape("decoder_embed.weight", 2)[0]
        sizes["decoder_depth"] = facts.depth("decoder_blocks")
        sizes["decoder_heads"] = attention_heads(facts, "decoder_heads", sizes["decoder_width"], visible=True)
    elif not is_known_mae:
        facts.remarks.append(
            f"a file without a decoder does not say how it was trained: it is taken as an MAE ({WHERE_IS_THE_DECODER})"
        )
    spec = facts.spec(
        channels,
        visible=has_decoder,
        image_size=(rows * patch, columns * patch),
        patch_size=patch,
        mask_ratio=facts.or_else("mask_ratio", 0.75, "mask ratio is the paper's 0.75, which the file does not say"),
        target_space=_predicted(facts) if has_decoder else _trained_to_predict(facts),
    )
    kind = "with decoder" if has_decoder else "without decoder"
    return facts.parsed(f"{maker} {kind}", spec, facts.architecture(MAEArchitecture, **sizes))


def _in_our_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights with the variants of names and parts that other code has, in the official MAE's own form.

    A bias of query and value alone is one of all three with zeros: a bias of the keys changes no attention.
    """
    renamed = {re.sub(r"\bgamma_([12])$", r"ls\1.gamma", name): value for name, value in state.items()}
    if "register_tokens" in renamed:
        renamed["reg_token"] = renamed.pop("register_tokens")
    for name in [name for name in renamed if name.endswith(".attn.q_bias")]:
        query, value = renamed.pop(name), renamed.pop(name.replace(".q_bias", ".v_bias"), None)
        if value is None:
            renamed[name] = query
        else:
            renamed[name.replace(".q_bias", ".qkv.bias")] = torch.cat([query, torch.zeros_like(query), value])
    return renamed


def _predicted(facts: CheckpointFacts) -> TargetSpace:
    """Return what the decoder predicts: what is known, or else the likeliest, which is then an open fact."""
    name = facts.path.stem
    if "ganloss" in name:
        facts.remarks.append("by the file's name, its decoder was trained with a further loss (GAN)")
    guesses = [space for word, space in _BY_NAME.items() if re.search(rf"(?<![a-z]){word}(?![a-z])", name)]
    guess = guesses[0] if len(guesses) == 1 else "normalised"
    known: TargetSpace | None = facts.stated("target_space")
    if known is not None:
        return known
    by_name = f"target space is {guess}, by the file's name"
    facts.or_else("target_space", guess, by_name if len(guesses) == 1 else "target space is not known")
    facts.unknown.append(unknown_space(guess, has_default=len(guesses) == 1))
    return guess


def unknown_space(likeliest: TargetSpace, *, has_default: bool) -> UnknownFact:
    """Return the open fact of what the decoder of an MAE predicts."""
    candidates = {words: space for words, space in _IN_WORDS.items() if space == likeliest} | _IN_WORDS
    flag = (
        "--set checkpoint.target_space=patch-normalised for norm_pix_loss, as of mae_pretrain_*_full, or =normalised "
        "for pixels as they are, as of mae_visualize_*"
    )
    return UnknownFact("target_space", candidates, flag, has_default=has_default)


def _trained_to_predict(facts: CheckpointFacts) -> TargetSpace:
    """Return what the decoder predicted that an encoder was trained with."""
    known: TargetSpace = facts.or_else(
        "target_space",
        "patch-normalised",
        "its decoder predicted patches normalised, as those of all released mae_pretrain_* files; the file does not "
        "say (--set checkpoint.target_space=normalised if it predicted pixels as they are)",
    )
    return known


LAYOUT = FileLayout(any_starts_with("patch_embed.proj."), read)
