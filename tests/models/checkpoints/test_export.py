import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoImageProcessor, ViTMAEForPreTraining

from mimia.config.recipes import Recipe
from mimia.data.decoding import decode
from mimia.models.base import ModelSpec, TargetSpace
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.mae import MAE, SIZES
from mimia.models.masking import draw_random_masks
from mimia.runtime.errors import MimiaError

GREY = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="patch-normalised",
    mean=(0.3,),
    std=(0.37,),
)
COLOUR = GREY.model_copy(
    update={
        "image_size": 16,
        "patch_size": 4,
        "channels": 3,
        "target_space": "normalised",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.25, 0.3),
    }
)
BANDS = COLOUR.model_copy(
    update={"channels": 13, "mean": (0.5, *[0.4] * 12), "std": (0.2, *[0.3] * 12), "target_space": "patch-normalised"}
)
MOST = BANDS.model_copy(update={"channels": 40, "mean": (0.5, *[0.4] * 39), "std": (0.2, *[0.3] * 39)})


def save_checkpoint(directory: Path, spec: ModelSpec, **architecture: Any) -> MAE:
    """Save a model in which no two parameters are alike."""
    generator = torch.Generator().manual_seed(0)
    model = MAE(spec, SIZES["nano"].model_copy(update=architecture), generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    training = native.Training(
        recipe=Recipe.model_validate({"preset": "mae-nano"}),
        seed=0,
        images=0,
        images_fingerprint="",
        losses=(),
        seconds=0,
        hardware={},
        versions={},
    )
    native.save(directory, model, training)
    return model


@pytest.mark.parametrize("space", ["normalised", "patch-normalised"])
@pytest.mark.parametrize("spec", [GREY, COLOUR, BANDS, MOST], ids=["grey", "colour", "bands", "many bands"])
def test_export_opens_in_transformers_with_equal_outputs(tmp_path: Path, spec: ModelSpec, space: TargetSpace) -> None:
    spec = spec.model_copy(update={"target_space": space})
    model = save_checkpoint(tmp_path / "mimia", spec)
    export(tmp_path / "mimia", tmp_path / "deep" / "exported")
    both: Any = ViTMAEForPreTraining.from_pretrained(tmp_path / "deep" / "exported", output_loading_info=True)
    opened, loading = both
    assert not any(loading.values())
    assert (opened.config.mask_ratio, opened.config.layer_norm_eps) == (spec.mask_ratio, 1e-6)
    generator = torch.Generator().manual_seed(1)
    shape = (3, *spec.shape)
    images = torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    masks = draw_random_masks(3, spec.tokens, spec.mask_ratio, generator)
    with torch.inference_mode():
        theirs = opened(spec.normalise(images), noise=masks[:, 0].float())
        torch.testing.assert_close(theirs.logits, model.reconstruct(images, masks)[:, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(theirs.loss, model.distances(images, masks).mean(), rtol=1e-5, atol=1e-5)
        again = load_checkpoint(str(tmp_path / "deep" / "exported")).model
        assert (again.spec.mean, again.spec.std, again.spec.shape) == (spec.mean, spec.std, spec.shape)
        expected = model.reconstruct(images, masks)
        torch.testing.assert_close(again.reconstruct(images, masks), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (48, 32), (32, 64)])
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
def test_exported_preprocessing_gives_our_normalised_pixels(
    tmp_path: Path, spec: ModelSpec, size: tuple[int, int]
) -> None:
    save_checkpoint(tmp_path / "mimia", spec)
    export(tmp_path / "mimia", tmp_path / "exported")
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(tmp_path / "exported")
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert("L" if spec.channels == 1 else "RGB")
    encoded = io.BytesIO()
    image.save(encoded, "PNG")
    ours = spec.normalise(torch.tensor(decode(encoded.getvalue(), spec.image_size, spec.channels)[None]))
    theirs = processor(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)


def test_exported_preprocessing_of_bands_normalises_images_of_the_right_size(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "mimia", BANDS)
    export(tmp_path / "mimia", tmp_path / "exported")
    processors: Any = AutoImageProcessor
    processor = processors.from_pretrained(tmp_path / "exported")
    pixels = np.random.default_rng(0).integers(0, 256, BANDS.shape, dtype=np.uint8)
    theirs = processor(pixels, input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(theirs, BANDS.normalise(torch.tensor(pixels[None])), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("size", "architecture", "message"),
    [
        ((16, 24), {}, "a grid of 4 by 6 patches that is no square"),
        (16, {"registers": 2}, "registers"),
        (16, {"class_token": False}, "no class token"),
        (16, {"class_position": False}, "no position of the class token"),
        (16, {"layer_scale": True}, r"scaled residuals \(LayerScale\)"),
        ((24, 16), {"registers": 2}, "a grid of 6 by 4 patches that is no square and registers"),
    ],
)
def test_what_the_layout_cannot_hold_is_named(
    tmp_path: Path, size: Any, architecture: dict[str, Any], message: str
) -> None:
    save_checkpoint(tmp_path / "mimia", BANDS.model_copy(update={"image_size": size}), **architecture)
    with pytest.raises(MimiaError, match=f"The model has {message}, which the ViTMAE of transformers cannot hold"):
        export(tmp_path / "mimia", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


def test_directory_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "mimia", GREY)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    for taken in (tmp_path / "taken", tmp_path / "taken" / "notes.txt"):
        with pytest.raises(MimiaError, match="There is something at"):
            export(tmp_path / "mimia", taken)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["notes.txt"]


def test_empty_directory_can_be_exported_to(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "mimia", GREY)
    (tmp_path / "exported").mkdir()
    export(tmp_path / "mimia", tmp_path / "exported")
    assert {path.name for path in (tmp_path / "exported").iterdir()} == {
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
    }


def test_failed_export_leaves_nothing_behind(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "mimia", GREY)
    (tmp_path / "mimia" / "model.safetensors").write_bytes(b"")
    with pytest.raises(MimiaError, match="damaged"):
        export(tmp_path / "mimia", tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["mimia"]
