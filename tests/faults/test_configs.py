"""JSON files beside weights, in bad faith: each ends at once in one sentence, before anything is built."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.runtime.strict_json import parse_json

NAN, INFINITE = float("nan"), float("inf")
OWN: list[tuple[str, object]] = [
    *(("spec.image_size", value) for value in (0, -8, 10**7, "8" * 100_000, 8.5, [8], None, {})),
    *(("spec.patch_size", value) for value in (0, -2, 3, 10**9)),
    *(("spec.cell", value) for value in (0, -1, 3, 10**9)),
    *(("spec.mask_ratio", value) for value in (NAN, INFINITE, 0, 1, -0.5, 1 - 1e-9)),
    *(("spec.mean", value) for value in ([NAN], [INFINITE], [1e300], [0.1] * 2, [0.1] * 100_000, "x", [])),
    *(("spec.std", value) for value in ([0], [-1], [NAN], [1e-300], [1e300], [INFINITE])),
    ("spec.channels", 2),
    *(("architecture.width", value) for value in (0, -64, 63, 10**9, 2**70)),
    *(("architecture.depth", value) for value in (-1, 4, 500, 10**7, True, INFINITE)),
    *(("architecture.heads", value) for value in (0, -1, 5, 10**9)),
    *(("architecture.decoder_width", value) for value in (-1, 0, 33, 10**9)),
    *(("architecture.decoder_heads", value) for value in (0, -1, 5)),
    *(("architecture.decoder_depth", value) for value in (-1, 0, 10**7)),
    *(("architecture.norm_eps", value) for value in (NAN, INFINITE, 0, -1, 2)),
    ("architecture.family", "x" * 100_000),
    ("architecture.family", ["mae"]),
    ("architecture", []),
    ("spec", "spec"),
    ("more", 1),
    ("version", 2),
]
TRANSFORMERS: list[tuple[str, object]] = [
    *(("patch_size", value) for value in (0, -2, 3, 10**9, [2, 3], [2] * 1000, {}, "2")),
    *(("image_size", value) for value in (0, -8, 10**9, 7, {"height": 8})),
    *(("num_channels", value) for value in (0, -1, 2, 10**9, [1])),
    *(("num_attention_heads", value) for value in (0, -1, 5, 1.5, "4", True)),
    *(("num_hidden_layers", value) for value in (-1, 0, 900, 10**9)),
    *(("hidden_size", value) for value in (0, 63, 60_000, 10**12)),
    *(("intermediate_size", value) for value in (0, 200_000)),
    *(("decoder_hidden_size", value) for value in (0, -4, 60_000)),
    *(("layer_norm_eps", value) for value in (NAN, INFINITE, 0, -1.0, 3.0, "x")),
    *(("mask_ratio", value) for value in (NAN, 0.0, 1.0, -1.0, 7.5)),
    *(("initializer_range", value) for value in (NAN, -1.0, 1e300)),
    *(("architectures", value) for value in (7, {}, [7], "ViTMAEModel", ["x" * 100_000], [[]], {"a": 1})),
    *(("model_type", value) for value in (7, [], "x" * 100_000)),
    *(("hidden_act", value) for value in (7, "no such function", "x" * 100_000)),
    ("quantization_config", {"quant_method": "bitsandbytes"}),
]


def id_of(case: object) -> str:
    return repr(case)[:40]


@pytest.mark.parametrize(("key", "value"), OWN, ids=id_of)
def test_configuration_of_ours_is_refused(
    own: Path, spoil: Callable[..., Path], refused: Callable[..., Any], key: str, value: object
) -> None:
    directory = spoil(own, "config.json", key.split("."), value)
    with refused():
        load_checkpoint(directory)


@pytest.mark.parametrize(("key", "value"), TRANSFORMERS, ids=id_of)
def test_configuration_of_transformers_is_refused(
    exported: Path, spoil: Callable[..., Path], refused: Callable[..., Any], key: str, value: object
) -> None:
    directory = spoil(exported, "config.json", [key], value)
    with refused():
        load_checkpoint(directory)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("rescale_factor", value) for value in ("x" * 1000, NAN, 1, [1])),
        *(("image_mean", value) for value in ([NAN], "x", [0.5] * 3, [1e300], {})),
        *(("image_std", value) for value in ([0], [-1], [INFINITE])),
        ("do_normalize", "perhaps"),
        ("image_processor", 7),
    ],
    ids=id_of,
)
def test_pre_processing_is_refused(
    exported: Path, spoil: Callable[..., Path], refused: Callable[..., Any], key: str, value: object
) -> None:
    directory = spoil(exported, "preprocessor_config.json", [key], value)
    with refused():
        load_checkpoint(directory)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((f"privacy.{key}", value) for key in ("epsilon", "delta", "clip") for value in (NAN, INFINITE, -1, "x")),
        ("privacy.delta", 2),
        ("privacy.steps", -1),
        *(("losses", value) for value in ([NAN], [INFINITE], "x", [None])),
        *(("seconds", value) for value in (NAN, -1)),
        *(("images", value) for value in (-1, 1.5)),
        ("recipe.epochs", 0),
        ("recipe.betas", [0.9, 1.0]),
        ("recipe.defences", {"dp_sgd": {"epsilon": 1e300}}),
        ("recipe.preset", "x" * 100_000),
    ],
    ids=id_of,
)
def test_record_of_a_training_is_refused(
    own: Path, spoil: Callable[..., Path], refused: Callable[..., Any], key: str, value: object
) -> None:
    directory = spoil(own, "training.json", key.split("."), value)
    with refused():
        native.load_training(directory)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 500 + b"1" + b"}" * 500,
        b'{"a": 1, "a": 2}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b'{"a": 1e999}',
        b'{"a": -Infinity}',
        b'{"a": ' + b"1" * 1_000_000 + b".5}",
        b'{"a": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'"a": 1',
        b"",
        b"\xff\xfe{}",
        b"{}{}",
        b"[" + b"1," * 11_000_000 + b"1]",
        b" " * (17 << 20),
    ],
    ids=id_of,
)
@pytest.mark.parametrize("file", ["config.json", "training.json"])
def test_text_that_is_no_good_json_is_refused(
    own: Path, spoil: Callable[..., Path], refused: Callable[..., Any], file: str, text: bytes
) -> None:
    directory = spoil(own, file, ["a"], 1)
    (directory / file).write_bytes(text)
    with refused("cannot be read as JSON"):
        load_checkpoint(directory)
        native.load_training(directory)


def test_json_is_read_as_the_standard_library_reads_it() -> None:
    content = {"a": [1, -2.5e-300, True, None, '猫\U0001f408 " \\ \n'], "b": {"": 2**64 - 1, "c": -(2**63)}}
    assert parse_json(json.dumps(content)) == content
    assert parse_json(json.dumps(content, ensure_ascii=False).encode()) == content
