"""What a checkpoint is, in words for a person."""

from typing import Any

from mimia.models.base import MaskedImageModel, ModelSpec, TargetSpace
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import LoadedCheckpoint
from mimia.models.masking import MaskKind

_PREDICTS: dict[TargetSpace, str] = {
    "normalised": "pixels as they are, normalised by the statistics above",
    "patch-normalised": (
        "patches normalised one by one: a prediction has no brightness and contrast of its own, and pictures of it "
        "borrow those of the true patch (predictions of mae_visualize_* files can be shown as they are)"
    ),
    "tokens": "visual tokens, which a tokenizer gives",
}
_MASKING: dict[MaskKind, str] = {
    "random": "random patches",
    "cell": "random cells of {cell} by {cell} patches",
    "blockwise": "overlapping rectangles of patches",
}


def describe(loaded: LoadedCheckpoint) -> list[tuple[str, str]]:
    """Return names and values of what is known of a checkpoint, in the order of reading."""
    model, spec = loaded.model, loaded.model.spec
    family, sizes = _architecture(model)
    rows = [
        ("layout", loaded.layout),
        ("family", family),
        ("sizes", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())),
        ("parameters", f"{sum(value.numel() for value in model.parameters()):,}"),
        ("images", _images(spec)),
        ("pixel mean", ", ".join(f"{value:.4g}" for value in spec.mean)),
        ("pixel std", ", ".join(f"{value:.4g}" for value in spec.std)),
        ("masking", _masking(spec)),
        ("predicts", _PREDICTS[spec.target_space] if model.has_decoder else "nothing"),
        ("access", "decoder: all of the model" if model.has_decoder else "encoder: all but a decoder"),
        ("id", loaded.id),
    ]
    training = None if loaded.own is None else native.load_training(loaded.own)
    if training is not None and training.privacy is not None:
        rows.append(("privacy", f"trained with DP-SGD: {training.privacy}"))
    return rows + [("assumed", sentence) for sentence in loaded.assumed + loaded.notes]


def _images(spec: ModelSpec) -> str:
    colours = "grey" if spec.channels == 1 else "RGB"
    return (
        f"{spec.image_size} by {spec.image_size} pixels, {colours}, in {spec.grid} by {spec.grid} patches of "
        f"{spec.patch_size} pixels"
    )


def _masking(spec: ModelSpec) -> str:
    what = _MASKING[spec.masking].format(cell=spec.cell)
    return f"{what}, a proportion of {spec.mask_ratio:.4g}; {spec.visible} of {spec.tokens} patches stay visible"


def _architecture(model: MaskedImageModel) -> tuple[str, dict[str, Any]]:
    """Return the family, and the sizes that are not those of every model of it."""
    sizes = model.architecture.model_dump(exclude_defaults=True)
    config = sizes.pop("config", {})  # of transformers
    return model.architecture.family, sizes | config
