"""What trainers write beside the weights, in their own words."""

from argparse import Namespace
from typing import Any

import pytest

from mimia.models.checkpoints.python_config import parse_python_config
from mimia.models.checkpoints.saved_settings import from_arguments, from_mmengine, from_yacs

ARGS: dict[str, Any] = {
    "mask_ratio": 0.6,
    "norm_pix_loss": True,
    "input_size": 64,
    "epochs": 200,
    "batch_size": 64,
    "accum_iter": 2,
}
ARGS |= {"world_size": 4, "blr": 1.5e-4, "warmup_epochs": 20, "weight_decay": 0.1, "model": "mae_vit_large_patch16"}
CFG = """
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1.5e-4 * 4096 / 256, betas=(0.9, 0.95), weight_decay=0.05))
auto_scale_lr = dict(base_batch_size=4096)
train_cfg = dict(by_epoch=True, max_epochs=300)
data_preprocessor = dict(mean=[51.0, 102.0, 153.0], std=[255.0, 51.0, 102.0], bgr_to_rgb=True)
train_pipeline = [dict(type='RandomResizedCrop', scale=224, crop_ratio_range=(0.2, 1.0)), dict(type='RandomFlip')]
model = dict(head=dict(type='MAEPretrainHead', norm_pix=True), backbone=dict(img_size=224, mask_ratio=0.75))
import os; os.system('true')
"""


@pytest.mark.parametrize("beside", [{"args": Namespace(**ARGS)}, {"hyper_parameters": {"config": ARGS}}])
def test_arguments_are_facts_and_a_recipe(beside: dict[str, Any]) -> None:
    saved = from_arguments(beside)
    assert saved.model == {
        "mask_ratio": 0.6,
        "target_space": "patch-normalised",
        "image_size": 64,
        "heads": 16,
        "decoder_heads": 16,
    }
    assert saved.recipe == {
        "epochs": 200,
        "batch_size": 512,
        "base_learning_rate": 1.5e-4,
        "warmup": 0.1,
        "weight_decay": 0.1,
    }


def test_configuration_of_mmengine_is_read_and_not_run() -> None:
    saved = from_mmengine({"meta": {"cfg": CFG}})
    assert saved.model == {
        "image_size": 224,
        "mask_ratio": 0.75,
        "target_space": "patch-normalised",
        "channel_order": "rgb",
        "mean": (0.2, 0.4, 0.6),
        "std": (1.0, 0.2, 0.4),
    }
    assert saved.recipe == {
        "epochs": 300,
        "batch_size": 4096,
        "base_learning_rate": pytest.approx(1.5e-4),
        "weight_decay": 0.05,
        "betas": (0.9, 0.95),
        "augmentation": "crop",
        "crop_scale": (0.2, 1.0),
    }


def test_settings_of_simmim_have_their_learning_rate_for_512_images() -> None:
    train = {"EPOCHS": 100, "WARMUP_EPOCHS": 10, "BASE_LR": 1e-4, "CLIP_GRAD": 5.0}
    saved = from_yacs({"config": {"DATA": {"IMG_SIZE": 192, "BATCH_SIZE": 128}, "TRAIN": train}})
    assert saved.recipe["base_learning_rate"] == 5e-5
    assert (saved.recipe["warmup"], saved.recipe["gradient_clip"]) == (0.1, 5.0)


@pytest.mark.parametrize("value", ["large", [3], [-1, 2], -(10**400), float("nan"), True, {"a": 1}, [1, 2, 3, 4]])
def test_values_that_are_no_sizes_and_numbers_are_left_out(value: object) -> None:
    names = ("input_size", "epochs", "batch_size", "blr", "warmup_epochs", "weight_decay")
    saved = from_arguments({"args": dict.fromkeys(names, value)})
    assert (saved.model, saved.recipe) == ({}, {})


@pytest.mark.parametrize("value", [123.675, [0.5, 123.0], "imagenet", [-0.5]])
def test_statistics_that_are_not_of_pixels_in_0_to_1_are_left_out(value: object) -> None:
    assert from_arguments({"args": {"mean": value, "std": value}}).model == {}


def test_arguments_within_themselves_end() -> None:
    args: dict[str, Any] = {"epochs": 5}
    args |= {"config": args, "model": args, "data": args}
    assert from_arguments({"args": args}).recipe == {"epochs": 5}


@pytest.mark.parametrize(
    "text", ["a = " + "(" * 500, "a = " + "1*" * 200_000 + "1", "a = 1e308 * 1e308 / 0", "\0", "a ="]
)
def test_odd_configurations_end_without_an_error(text: str) -> None:
    assert parse_python_config(text) == {}
