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


def save_checkpoint(directory: Path, spec: ModelSpec) -> MAE:
    """Save a model in which no two parameters are alike."""
    generator = torch.Generator().manual_seed(0)
    model = MAE(spec, SIZES["nano"], generator).eval()
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
@pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])
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
