from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import Tensor

from mimia.config.recipes import SizeName
from mimia.models.base import ModelSpec
from mimia.models.huggingface import HuggingFaceArchitecture, HuggingFaceModel, ModelType, swin_architecture
from mimia.models.patches import unpatchify

SPEC = ModelSpec(
    image_size=32,
    channels=3,
    patch_size=4,
    masking="cell",
    mask_ratio=0.6,
    cell=2,
    target_space="normalised",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "encoder_stride": 4,
}
STAGES: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "encoder_stride": 8}
WINDOWS = STAGES | {"num_heads": [2, 4], "window_size": 4}
SIGNALS: list[tuple[ModelType, str, dict[str, Any]]] = [
    ("swin", "Swin", WINDOWS),
    ("swin", "Swin", WINDOWS | {"use_absolute_embeddings": True, "window_size": 2}),
    ("swinv2", "Swinv2", WINDOWS),
    ("focalnet", "FocalNet", STAGES),
    ("vit", "ViT", VIT),
    ("deit", "DeiT", VIT),
]


def make_model(spec: ModelSpec, architecture: HuggingFaceArchitecture) -> HuggingFaceModel:
    """Make a model in which no two parameters are alike, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(0)
    model = HuggingFaceModel(spec, architecture, generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def make_reference(name: str, spec: ModelSpec, config: dict[str, Any], model: HuggingFaceModel) -> Any:
    """Make the class of transformers itself, with the parameters of our model by their names in it."""
    made = getattr(transformers, f"{name}Config")(
        image_size=spec.image_size, patch_size=spec.patch_size, num_channels=spec.channels, **config
    )
    reference: Any = getattr(transformers, f"{name}ForMaskedImageModeling")(made)
    weights = {key.removeprefix("model."): value for key, value in model.state_dict().items()}
    reference.load_state_dict(weights, strict=True)
    return reference.eval()


def make_images(spec: ModelSpec, count: int) -> Tensor:
    shape = (count, *spec.shape)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    ids = np.array([f"image {number}" for number in range(count)])
    return torch.from_numpy(spec.scoring_masks(ids, draws, seed=0))


@pytest.mark.parametrize(("model_type", "name", "config"), SIGNALS)
def test_distances_and_predictions_are_those_of_transformers_for_one_image_and_mask(
    model_type: ModelType, name: str, config: dict[str, Any]
) -> None:
    model = make_model(SPEC, HuggingFaceArchitecture(model_type=model_type, config=config))
    reference = make_reference(name, SPEC, config, model)
    images, masks = make_images(SPEC, 2), make_masks(SPEC, 2, draws=2)
    with torch.no_grad():
        patches, distances = model.reconstruct(images, masks), model.distances(images, masks)
        for image, draw in np.ndindex(2, 2):
            pixels = SPEC.normalise(images[image : image + 1])
            expected = reference(pixels, bool_masked_pos=masks[image, draw][None])
            predicted = unpatchify(patches[image, draw][None], SPEC.patch_size, SPEC.grid)
            torch.testing.assert_close(predicted, expected.reconstruction, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(distances[image, draw], expected.loss, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("model_type", "name", "config"), SIGNALS)
def test_tokens_are_the_last_hidden_state_without_its_special_tokens(
    model_type: ModelType, name: str, config: dict[str, Any]
) -> None:
    model = make_model(SPEC, HuggingFaceArchitecture(model_type=model_type, config=config))
    reference = make_reference(name, SPEC, config, model)
    images, masks = make_images(SPEC, 2), make_masks(SPEC, 2, draws=2)
    special = {"vit": 1, "deit": 2}.get(model_type)
    with torch.no_grad():
        tokens = model.tokens(images, masks)
        for image, draw in np.ndindex(2, 2):
            mask = masks[image, draw][None]
            hidden = reference.base_model(SPEC.normalise(images[image : image + 1]), bool_masked_pos=mask)[0][0]
            expected = hidden if special is None else hidden[special:][~mask[0]]
            torch.testing.assert_close(tokens[image, draw], expected, rtol=1e-5, atol=1e-5)


def test_masks_that_leave_unequal_numbers_visible_have_distances_but_no_tokens_of_patches() -> None:
    model = make_model(SPEC, HuggingFaceArchitecture(model_type="vit", config=VIT))
    images, masks = make_images(SPEC, 2), make_masks(SPEC, 2, draws=2)
    masks[1, 1, masks[1, 1].nonzero()[0]] = False
    with torch.inference_mode():
        assert bool(model.distances(images, masks).isfinite().all())
        with pytest.raises(ValueError, match="same number of patches"):
            model.tokens(images, masks)


@pytest.mark.parametrize(
    ("size", "image_size", "patch_size", "last"), [("nano", 8, 1, 4), ("micro", 32, 2, 4), ("tiny", 32, 1, 4)]
)
def test_swin_of_each_small_size_reconstructs_whole_images(
    size: SizeName, image_size: int, patch_size: int, last: int
) -> None:
    spec = SPEC.model_copy(update={"image_size": image_size, "patch_size": patch_size})
    model = HuggingFaceModel(spec, swin_architecture(size, spec), torch.Generator().manual_seed(0))
    images, masks = make_images(spec, 1), make_masks(spec, 1, draws=2)
    with torch.inference_mode():
        assert model.reconstruct(images, masks).shape == (1, 2, spec.tokens, patch_size**2 * 3)
        assert model.tokens(images, masks).shape[:3] == (1, 2, last**2)


@pytest.mark.parametrize(("size", "width", "window"), [("base", 128, 6), ("large", 192, 6)])
def test_large_swins_are_those_of_simmim(size: SizeName, width: int, window: int) -> None:
    spec = SPEC.model_copy(update={"image_size": 192, "cell": 8})
    heads = [width // 32 * 2**stage for stage in range(4)]
    assert swin_architecture(size, spec) == HuggingFaceArchitecture(
        model_type="swin",
        config={
            "embed_dim": width,
            "depths": [2, 2, 18, 2],
            "num_heads": heads,
            "window_size": window,
            "encoder_stride": 32,
        },
    )
