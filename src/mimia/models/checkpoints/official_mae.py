"""Files of the official MAE (facebookresearch/mae), and of others that keep its names, such as timm.

There are three kinds of released files. ``mae_pretrain_*`` has no decoder. ``mae_pretrain_*_full`` has one that
predicts patches normalised by their own mean and variance; ``mae_visualize_*`` has one that predicts pixels as they
are. The two have the same keys and shapes: only the arguments of the training, where the file holds them, or its name
tell.
"""

import re
from argparse import Namespace

from mimia.config.settings import CheckpointSettings
from mimia.models.base import TargetSpace
from mimia.models.checkpoints.layout import FileLayout, any_starts_with
from mimia.models.checkpoints.parsed import WHERE_IS_THE_DECODER, CheckpointFacts, ParsedCheckpoint
from mimia.models.checkpoints.safe import Contents
from mimia.models.mae import MAEArchitecture
from mimia.runtime.errors import MimiaError

_BY_NAME: dict[str, TargetSpace] = {"full": "patch-normalised", "visualize": "normalised"}


def read(contents: Contents, given: CheckpointSettings) -> ParsedCheckpoint:
    """Read a file of the official MAE.

    Raises:
        MimiaError: Its sizes cannot be read or contradict each other, or nothing says what its decoder predicts.
    """
    args = contents.beside.get("args")
    args = vars(args) if isinstance(args, Namespace) else {}
    said = {
        "image_size": args.get("input_size"),
        "mask_ratio": args.get("mask_ratio"),
        "target_space": target_space(args.get("norm_pix_loss")),
    }
    return read_facts(CheckpointFacts(contents.path, contents.state, said, given), "official MAE")


def target_space(norm_pix_loss: bool | None) -> TargetSpace | None:
    """Return the target space of a decoder, by the setting of its training."""
    if norm_pix_loss is None:
        return None
    return "patch-normalised" if norm_pix_loss else "normalised"


def read_facts(facts: CheckpointFacts, maker: str) -> ParsedCheckpoint:
    """Read weights that have the names of the official MAE.

    Args:
        facts: What is known of the model.
        maker: Whose layout it was, for a person.

    Raises:
        MimiaError: As for `read`.
    """
    facts.refuse_heads()
    width, channels, patch = facts.patches("patch_embed.proj.weight")
    grid = facts.side(facts.shape("pos_embed", 3)[1] - 1)
    facts.refuse_mixtures(facts.said.get("image_size"), grid, patch)
    sizes = {"width": width, "depth": facts.depth("blocks"), "heads": facts.heads("heads", width)}
    has_decoder = facts.has("decoder_")
    if has_decoder:
        sizes["decoder_width"] = facts.shape("decoder_embed.weight", 2)[0]
        sizes["decoder_depth"] = facts.depth("decoder_blocks")
        sizes["decoder_heads"] = facts.heads("decoder_heads", sizes["decoder_width"])
    else:
        facts.assumed.append(
            f"a file without a decoder does not say how it was trained: it is taken as an MAE ({WHERE_IS_THE_DECODER})"
        )
    space = _predicted(facts) if has_decoder else "normalised"  # of no consequence without a decoder
    spec = facts.spec(
        channels,
        image_size=grid * patch,
        patch_size=patch,
        mask_ratio=facts.or_else("mask_ratio", 0.75, "mask ratio is the paper's 0.75, which the file does not say"),
        target_space=space,
    )
    kind = "without decoder"
    if has_decoder:
        kind = f"with decoder ({'full' if space == 'patch-normalised' else 'visualize'})"
    return ParsedCheckpoint(
        f"{maker} {kind}", spec, facts.architecture(MAEArchitecture, **sizes), facts.state, tuple(facts.assumed)
    )


def _predicted(facts: CheckpointFacts) -> TargetSpace:
    """Return what the decoder predicts."""
    name = facts.path.stem
    guess = next((space for word, space in _BY_NAME.items() if re.search(rf"(?<![a-z]){word}(?![a-z])", name)), None)
    known: TargetSpace | None = facts.or_else("target_space", guess, f"target space is {guess}, by the file's name")
    if known is None:
        raise MimiaError(
            f"{facts.path} is an MAE with a decoder, and neither its arguments nor its name say what that predicts: "
            "pass --set checkpoint.target_space=patch-normalised for norm_pix_loss, as of mae_pretrain_*_full, or "
            "=normalised for pixels as they are, as of mae_visualize_*."
        )
    if "ganloss" in name:
        facts.assumed.append("by the file's name, its decoder was trained with a further loss (GAN)")
    return known


LAYOUT = FileLayout(any_starts_with("patch_embed.proj."), read)
