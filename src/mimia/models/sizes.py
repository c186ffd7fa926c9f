"""Bounds on the sizes and numbers of a model, wherever a file says them.

What lies outside is refused before anything is built: a depth of 10⁷ would be built for hours.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue

from mimia.config.sizes import LARGEST_IMAGE
from mimia.runtime.errors import MimiaError
from mimia.runtime.text import shortened

MOST_CHANNELS = 256
"""Channels of an image: bands of a hyperspectral camera, say."""
MOST_TOKENS = 65_536
"""Patches of an image."""
MOST_PAIRED = 4096
"""Patches of an image, for models with a number for each pair of them."""
Depth = Annotated[int, Field(ge=0, le=1000)]
Width = Annotated[int, Field(ge=0, le=65_536)]
Epsilon = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]

_Bounds = tuple[float, float]
_DEPTH, _WIDTH, _SIDE, _PROBABILITY, _SCALE = (0, 1000), (1, 65_536), (1, LARGEST_IMAGE), (0.0, 1.0), (0.0, 10.0)
_WHOLE: dict[str, _Bounds] = {  # of configurations of transformers: a number, or a list of them
    **dict.fromkeys(("num_hidden_layers", "decoder_num_hidden_layers", "num_layers", "depths"), _DEPTH),
    **dict.fromkeys(("num_groups", "num_blocks_per_group"), (1, 32)),
    **dict.fromkeys(("num_attention_heads", "decoder_num_attention_heads", "num_heads"), _WIDTH),
    **dict.fromkeys(("hidden_size", "decoder_hidden_size", "hidden_sizes", "embed_dim", "pooler_output_size"), _WIDTH),
    **dict.fromkeys(("intermediate_size", "decoder_intermediate_size"), (1, 4 * 65_536)),
    **dict.fromkeys(("image_size", "patch_size", "encoder_stride"), _SIDE),
    **dict.fromkeys(("num_channels", "input_channels"), (1, MOST_CHANNELS)),
    "vocab_size": (1, 1_000_000),
    "window_size": (1, 32),
    "pretrained_window_sizes": (0, 32),
    "focal_levels": (1, 16),
    "focal_windows": (1, 32),
}
_REAL: dict[str, _Bounds] = {
    **dict.fromkeys(("layer_norm_eps", "mask_ratio"), (math.ulp(0.0), 1.0)),
    "mlp_ratio": (0.01, 64.0),
    **dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"), _PROBABILITY),
    **dict.fromkeys(("initializer_range", "layer_scale_init_value", "layerscale_value"), _SCALE),
}
_LONGEST_LIST = 16
_LONGEST_NAME = 100
_NOT_OURS = {"torchscript", "pruned_heads", "quantization_config"}


def checked(config: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the settings of a configuration of transformers.

    Raises:
        ValueError: A size or number is out of bounds, or the class is not named by texts.
    """
    for key, value in config.items():
        if key in _WHOLE:
            _check_each(key, value, int, _WHOLE[key])
        elif key in _REAL:
            _check_each(key, value, int | float, _REAL[key])
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{shortened(key, 40)} is {value}: it must be finite")
    for key in _NOT_OURS & config.keys():
        raise ValueError(f"it sets {key}, which shapes no model: leave it out")
    wrong = [key for key in ("model_type", "architecture", "hidden_act") if not _is_name(config.get(key, ""))]
    if wrong:
        raise ValueError(f"{wrong[0]} is {_shown(config[wrong[0]])}: it must be a name")
    classes = config.get("architectures")
    if classes is not None and not (isinstance(classes, list) and all(map(_is_name, classes))):
        raise ValueError(f"architectures is {_shown(classes)}: it must be a list of names of classes")
    return config


CheckedConfig = Annotated[dict[str, JsonValue], AfterValidator(checked)]
"""Settings of a configuration of transformers, as a field of a pydantic model."""


def check_heads(width: int, heads: int) -> None:
    """Raise if a width cannot be split into heads.

    Raises:
        ValueError: It cannot.
    """
    if width < 1 or heads < 1 or width % heads:
        raise ValueError(f"a width of {width} cannot be split into {heads} heads")


def check_paired(tokens: int) -> None:
    """Raise if there are too many patches for a model with a number for each pair of them.

    Raises:
        MimiaError: There are.
    """
    if tokens > MOST_PAIRED:
        raise MimiaError(
            f"Images of {tokens:,} patches are too large for a model with a number for each pair of patches: "
            f"{MOST_PAIRED:,} patches are the most."
        )


def divisors(number: int) -> list[int]:
    """Return the numbers that divide a number, in order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    small = [each for each in range(1, math.isqrt(number) + 1) if number % each == 0]
    return sorted({*small, *(number // each for each in small)})


def blocks_of(sizes: Mapping[str, Any]) -> int:
    """Count the blocks that the sizes of an architecture ask for.

    >>> blocks_of({"depth": 12, "decoder_depth": 8}), blocks_of({"config": {"depths": [2, 2, 6, 2]}})
    (20, 12)
    """
    total = 0
    for key, value in sizes.items():
        if isinstance(value, Mapping):
            total += blocks_of(value)
        elif key in ("depth", "decoder_depth", "num_hidden_layers", "decoder_num_hidden_layers", "depths"):
            total += sum(value) if isinstance(value, list | tuple) else value
    return total


def _check_each(key: str, value: object, kind: Any, bounds: _Bounds) -> None:
    if value is None:
        return
    values = value if isinstance(value, list) else [value]
    low, high = bounds
    for each in values[: _LONGEST_LIST + 1]:
        if isinstance(each, bool) or not isinstance(each, kind) or not low <= each <= high:
            what = "a whole number" if kind is int else "a number"
            least = "more than 0" if low == math.ulp(0.0) else f"{low:,}"
            raise ValueError(f"{key} is {_shown(value)}: it must be {what} from {least} to {high:,}")
    if len(values) > _LONGEST_LIST:
        raise ValueError(f"{key} is a list of {len(values):,} numbers: {_LONGEST_LIST} are the most")


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_NAME


def _shown(value: object) -> str:
    return shortened(repr(value), 40)
