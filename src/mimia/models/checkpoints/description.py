"""Say what a checkpoint is, for a person: layout, family, sizes, images, access level, and how each is known."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from mimia.models.base import MaskedImageModel, ModelSpec, TargetSpace
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import LoadedCheckpoint
from mimia.models.checkpoints.provenance import UnknownFact
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
_COLOURS = {1: "grey", 3: "RGB"}


class Line(NamedTuple):
    """Something that is known of a checkpoint.

    Attributes:
        name: What it is.
        value: In words.
        source: Where it is known from; empty where it is plain.
    """

    name: str
    value: str
    source: str = ""


def describe(loaded: LoadedCheckpoint) -> list[Line]:
    """Return what is known of a checkpoint, in the order of reading."""
    model, spec = loaded.model, loaded.model.spec
    family, sizes = _architecture(model)

    def line(name: str, value: str, fact: str) -> Line:
        return Line(name, value, loaded.facts[fact].source if fact in loaded.facts else "")

    lines = [
        Line("layout", loaded.layout),
        Line("family", family),
        Line("sizes", ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sizes.items())),
        *(line(name.replace("_", " "), str(sizes[name]), name) for name in ("heads", "decoder_heads") if name in sizes),
        Line("parameters", f"{sum(value.numel() for value in model.parameters()):,}"),
        line("images", _images(spec), "image_size"),
        line("pixel mean", ", ".join(f"{value:.4g}" for value in spec.mean), "mean"),
        line("pixel std", ", ".join(f"{value:.4g}" for value in spec.std), "std"),
        line("masking", _masking(spec), "mask_ratio"),
        *(
            [line("predicts", _PREDICTS[spec.target_space], "target_space")]
            if model.has_decoder
            else [Line("predicts", "nothing"), *_lost_decoder(loaded)]
        ),
        Line("access", "decoder: all of the model" if model.has_decoder else "encoder: all but a decoder"),
        Line("id", loaded.id),
        *_training(loaded),
    ]
    lines += [Line("not known", _open(unknown)) for unknown in loaded.unknown]
    return lines + [Line("assumed", sentence) for sentence in (*loaded.assumed, *loaded.notes)]


def _lost_decoder(loaded: LoadedCheckpoint) -> Iterator[Line]:
    """Yield what the decoder predicted that an encoder was trained with, if that is known or assumed."""
    if "target_space" in loaded.facts:
        space = loaded.model.spec.target_space
        yield Line(
            "in training", f"it predicted {_PREDICTS[space].partition(':')[0]}", loaded.facts["target_space"].source
        )


def _training(loaded: LoadedCheckpoint) -> Iterator[Line]:
    """Yield how the model was trained, as far as it is known."""
    training = None if loaded.own is None else native.load_training(loaded.own)
    if training is not None and training.privacy is not None:
        yield Line("privacy", f"trained with DP-SGD: {training.privacy}")
    if loaded.parsed is not None and loaded.parsed.recipe:
        recipe = {name.replace("_", " "): value for name, value in loaded.parsed.recipe.items()}
        yield Line("training", ", ".join(f"{name} {_short(value)}" for name, value in recipe.items()), "from the file")


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _open(unknown: UnknownFact) -> str:
    name = unknown.name.replace("_", " ")
    return (
        f"{name}: one of {', '.join(unknown.candidates)}; an audit finds it by the pixels (as does "
        f"--data IMAGES here), or pass {unknown.flag}"
    )


def _images(spec: ModelSpec) -> str:
    colours = _COLOURS.get(spec.channels, f"{spec.channels} bands")
    _, height, width = spec.shape
    rows, columns = spec.grid
    return f"{height} by {width} pixels, {colours}, in {rows} by {columns} patches of {spec.patch_size} pixels"


def _masking(spec: ModelSpec) -> str:
    what = _MASKING[spec.masking].format(cell=spec.cell)
    return f"{what}, a proportion of {spec.mask_ratio:.4g}; {spec.visible} of {spec.tokens} patches stay visible"


def _architecture(model: MaskedImageModel) -> tuple[str, dict[str, Any]]:
    """Return the family, and the sizes that are not those of every model of it."""
    sizes = model.architecture.model_dump(exclude_defaults=True)
    config = sizes.pop("config", {})  # of transformers
    return model.architecture.family, sizes | config
