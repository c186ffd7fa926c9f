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


def each(key: str, *values: object) -> list[tuple[str, object]]:
    return [(key, value) for value in values]


OWN: list[tuple[str, object]] = [
    *each("spec.image_size", 0, -8, 10**7, "8" * 100_000, 8.5, [8], None, {}),
    *each("spec.patch_size", 0, -2, 3, 10**9),
    *each("spec.cell", 0, -1, 3, 10**9),
    *each("spec.mask_ratio", NAN, INFINITE, 0, 1, -0.5, 1 - 1e-9),
    *each("spec.mean", [NAN], [INFINITE], [1e300], [0.1] * 2, [0.1] * 100_000, "x", []),
    *each("spec.std", [0], [-1], [NAN], [1e-300], [1e300], [INFINITE]),
    ("spec.channels", 2),
    *each("architecture.width", 0, -64, 63, 10**9, 2**70),
    *each("architecture.depth", -1, 4, 500, 10**7, True, INFINITE),
    *each("architecture.heads", 0, -1, 5, 10**9),
    *each("architecture.decoder_width", -1, 0, 33, 10**9),
    *each("architecture.decoder_heads", 0, -1, 5),
    *each("architecture.decoder_depth", -1, 0, 10**7),
    *each("architecture.norm_eps", NAN, INFINITE, 0, -1, 2),
    ("architecture.family", "x" * 100_000),
    ("architecture.family", ["mae"]),
    ("architecture", []),
    ("spec", "spec"),
    ("more", 1),
    ("version", 2),
]
TRANSFORMERS: list[tuple[str, object]] = [
    *each("patch_size", 0, -2, 3, 10**9, [2, 3], [2] * 1000, {}, "2"),
    *each("image_size", 0, -8, 10**9, 7, {"height": 8}),
    *each("num_channels", 0, -1, 2, 10**9, [1]),
    *each("num_attention_heads", 0, -1, 5, 1.5, "4", True),
    *each("num_hidden_layers", -1, 0, 900, 10**9),
    *each("hidden_size", 0, 63, 60_000, 10**12),
    *each("intermediate_size", 0, 200_000),
    *each("decoder_hidden_size", 0, -4, 60_000),
    *each("layer_norm_eps", NAN, INFINITE, 0, -1.0, 3.0, "x"),
    *each("mask_ratio", NAN, 0.0, 1.0, -1.0, 7.5),
    *each("initializer_range", NAN, -1.0, 1e300),
    *each("architectures", 7, {}, [7], "ViTMAEModel", ["x" * 100_000], [[]], {"a": 1}),
    *each("model_type", 7, [], "x" * 100_000),
    *each("hidden_act", 7, "no such function", "x" * 100_000),
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
        *each("rescale_factor", "x" * 1000, NAN, 1, [1]),
        *each("image_mean", [NAN], "x", [0.5] * 3, [1e300], {}),
        *each("image_std", [0], [-1], [INFINITE]),
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
        *each("privacy.epsilon", NAN, INFINITE, -1, "x"),
        *each("privacy.delta", NAN, INFINITE, -1, "x"),
        *each("privacy.clip", NAN, INFINITE, -1, "x"),
        ("privacy.delta", 2),
        ("privacy.steps", -1),
        *each("losses", [NAN], [INFINITE], "x", [None]),
        *each("seconds", NAN, -1),
        *each("images", -1, 1.5),
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
