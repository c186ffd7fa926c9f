"""What holds for the models of every family."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mimia.config.recipes import Recipe
from mimia.models import mae, simmim
from mimia.models.base import Architecture, MaskedImageModel, ModelSpec
from mimia.models.beit import BEiT, beit_architecture
from mimia.models.checkpoints import native
from mimia.models.huggingface import HuggingFaceArchitecture, swin_architecture
from mimia.models.masking import random_masks
from mimia.models.patches import unpatchify
from mimia.models.registry import architecture_for, build
from mimia.models.tokenizer import PatchTokenizer, TokenizerArchitecture
from mimia.runtime.errors import MimiaError

BASE = ModelSpec(
    image_size=8,
    channels=3,
    patch_size=2,
    mask_ratio=0.5,
    target_space="normalised",
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.25, 0.3),
)
CELLS = BASE.model_copy(update={"masking": "cell", "cell": 2})
TOKENS = BASE.model_copy(update={"masking": "blockwise", "target_space": "tokens"})
VIT: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "encoder_stride": 2,
}
STAGES: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "encoder_stride": 4}
WINDOWS = STAGES | {"num_heads": [2, 4], "window_size": 2}
CODEBOOK = TokenizerArchitecture(vocabulary=20)
DALLE = TokenizerArchitecture(kind="dalle", vocabulary=20, config={"hidden_size": 8})
MODELS: dict[str, tuple[ModelSpec, Architecture]] = {
    "mae": (BASE, mae.SIZES["nano"]),
    "simmim": (CELLS, simmim.SIZES["nano"]),
    "swin": (CELLS, swin_architecture("nano", CELLS)),
    "swinv2": (CELLS, HuggingFaceArchitecture(model_type="swinv2", config=WINDOWS)),
    "focalnet": (CELLS, HuggingFaceArchitecture(model_type="focalnet", config=STAGES)),
    "vit": (CELLS, HuggingFaceArchitecture(model_type="vit", config=VIT)),
    "deit": (CELLS, HuggingFaceArchitecture(model_type="deit", config=VIT)),
    "beit": (TOKENS, beit_architecture("nano", CODEBOOK)),
    "beit with the tokens of DALL-E": (TOKENS, beit_architecture("nano", DALLE)),
}
every_family = pytest.mark.parametrize("family", MODELS)


def make_model(family: str) -> MaskedImageModel:
    """Make a model in which no two parameters are alike, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(0)
    model = build(*MODELS[family], generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    if isinstance(model, BEiT) and isinstance(model.tokenizer, PatchTokenizer):
        model.tokenizer.codebook.normal_(generator=generator)
    return model


def make_images(spec: ModelSpec, count: int) -> Tensor:
    shape = (count, *spec.shape)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    ids = np.array([f"image {number}" for number in range(count)])
    return torch.from_numpy(spec.scoring_masks(ids, draws, seed=0))


def on_pixels(spec: ModelSpec, masks: Tensor) -> Tensor:
    """Spread a mask of each image over its pixels: (B, 1, L) -> (B, C, H, W)."""
    values = masks[:, 0, :, None].expand(-1, -1, spec.patch_size**2 * spec.channels)
    return unpatchify(values.contiguous(), spec.patch_size, spec.grid)


@every_family
def test_all_masks_and_images_at_once_give_the_distances_of_one_at_a_time(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 4), make_masks(model.spec, 4, draws=3)
    with torch.inference_mode():
        together = model.distances(images, masks)
        for image, draw in np.ndindex(4, 3):
            alone = model.distances(images[image : image + 1], masks[image : image + 1, draw : draw + 1])
            torch.testing.assert_close(together[image, draw], alone[0, 0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.loss(images, masks), together.mean())


@every_family
def test_distance_of_an_image_has_no_gradient_in_another_one(family: str) -> None:
    model = make_model(family)
    images = (make_images(model.spec, 3) / 255).requires_grad_()
    distance = model.distances(images, make_masks(model.spec, 3, draws=2))[1].sum()
    (gradient,) = torch.autograd.grad(distance, images)
    assert gradient.flatten(1).any(dim=1).tolist() == [False, True, False]


class Loss(nn.Module):
    """The loss of one image under one mask, for `functional_call`."""

    def __init__(self, model: MaskedImageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.model.loss(image[None], mask[None])


@every_family
def test_gradients_of_all_images_at_once_are_those_of_one_at_a_time(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 3) / 255, make_masks(model.spec, 3, draws=1)
    loss = Loss(model)
    trained = {name: value.detach() for name, value in loss.named_parameters() if value.requires_grad}

    def gradients(values: dict[str, Tensor], image: Tensor, mask: Tensor) -> Any:
        return grad(lambda weights: functional_call(loss, weights, (image, mask)))(values)

    with sdpa_kernel(SDPBackend.MATH):  # the one whose gradient has a rule for batches
        together = vmap(gradients, in_dims=(None, 0, 0))(trained, images, masks)
        for row in range(3):
            alone = torch.autograd.grad(
                model.loss(images[row : row + 1], masks[row : row + 1]),
                [value for value in model.parameters() if value.requires_grad],
                materialize_grads=True,
            )
            for each, expected in zip(together.values(), alone, strict=True):
                torch.testing.assert_close(each[row], expected, rtol=1e-4, atol=1e-5)


@every_family
def test_masked_pixels_are_not_seen_and_visible_ones_are(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 3), make_masks(model.spec, 3, draws=1)
    hidden = on_pixels(model.spec, masks)
    with torch.inference_mode():
        before = model.reconstruct(images, masks)
        assert torch.equal(before, model.reconstruct(torch.where(hidden, 255 - images, images), masks))
        changed = model.reconstruct(torch.where(hidden, images, 255 - images), masks)
        assert not torch.isclose(before, changed).any(dim=-1).all()


@every_family
def test_distance_is_measured_at_masked_patches_alone(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 3), make_masks(model.spec, 3, draws=2)
    with torch.inference_mode():
        predictions = model.reconstruct(images, masks)
        expected = model.errors(predictions, images, masks)
        torch.testing.assert_close(model.distances(images, masks), expected)
        noise = torch.randn(predictions.shape, generator=torch.Generator().manual_seed(0))
        elsewhere = torch.where(masks.unsqueeze(-1), predictions, noise)
        assert torch.equal(model.errors(elsewhere, images, masks), expected)
        there = torch.where(masks.unsqueeze(-1), noise, predictions)
        assert not torch.isclose(model.errors(there, images, masks), expected).any()


@every_family
def test_error_of_each_patch_is_that_of_its_pixels_or_its_token(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=2)
    with torch.inference_mode():
        predictions = model.reconstruct(images, masks)
        found = model.patch_errors(predictions, images)
        assert found.shape == (2, 2, 16)
        pixels = model.spec.normalise(images)
        for image, draw, patch in np.ndindex(2, 2, 16):
            predicted = predictions[image, draw, patch]
            if isinstance(model, BEiT):
                token = int(model.tokenizer(images)[image, patch])
                expected = float(predicted.double().logsumexp(dim=0) - predicted[token])
            else:
                row, column = divmod(patch, 4)
                target = pixels[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].permute(1, 2, 0).flatten()
                difference = (predicted - target).abs().double()
                expected = float((difference**2 if family == "mae" else difference).mean())
            assert float(found[image, draw, patch]) == pytest.approx(expected, rel=1e-5)


@every_family
def test_error_of_a_mask_is_the_mean_of_its_patches_however_many_they_are(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=3)
    uneven = masks.clone()
    uneven[:, 0] = torch.arange(16) < 5
    uneven[:, 1] = torch.arange(16) == 9
    with torch.inference_mode():
        predictions = model.reconstruct(images, masks)
        each, found = model.patch_errors(predictions, images), model.errors(predictions, images, uneven)
    for image, draw in np.ndindex(2, 3):
        chosen = each[image, draw][uneven[image, draw]].double()
        assert float(found[image, draw]) == pytest.approx(float(chosen.mean()), rel=1e-5)


@pytest.mark.parametrize("spec", [BASE, CELLS, TOKENS], ids=["random", "cell", "blockwise"])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.75])
def test_complementary_masks_show_as_much_as_training_and_each_patch_at_most_once(
    spec: ModelSpec, ratio: float
) -> None:
    spec = spec.model_copy(update={"mask_ratio": ratio})
    ids = np.array([f"image {number}" for number in range(20)])
    masks = spec.complementary_masks(ids, 7, seed=3)
    assert masks.shape == (20, 7, 16)
    if spec.masking == "blockwise":
        assert np.array_equal(masks, spec.scoring_masks(ids, 7, seed=3))
        return
    assert ((~masks).sum(axis=-1) == spec.visible).all()
    in_group = spec.tokens // spec.visible
    for start in range(0, 7, in_group):
        assert (~masks[:, start : start + in_group]).sum(axis=1).max() == 1
    assert np.array_equal(spec.complementary_masks(ids[4:6], 5, seed=3), masks[4:6, :5])
    if spec.masking == "cell":
        cells = masks.reshape(20, 7, 2, 2, 2, 2)
        assert np.array_equal(cells.any(axis=(3, 5)), cells.all(axis=(3, 5)))


@every_family
def test_models_reconstruct_under_complementary_masks(family: str) -> None:
    model = make_model(family)
    masks = torch.from_numpy(model.spec.complementary_masks(np.array(["a", "b"]), 5, seed=0))
    with torch.inference_mode():
        assert bool(model.distances(make_images(model.spec, 2), masks).isfinite().all())


@every_family
def test_pixels_from_0_to_255_and_from_0_to_1_are_the_same_image(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=1)
    with torch.inference_mode():
        assert torch.equal(model.distances(images, masks), model.distances(images.float() / 255, masks))


@every_family
def test_tokens_are_one_for_each_visible_patch_or_all_of_the_last_stage(family: str) -> None:
    model = make_model(family)
    ids = np.array(["a", "b"])
    masks = torch.from_numpy(random_masks(ids, 3, model.spec.tokens, 0.75, seed=0))
    count = 4 if family in ("swin", "swinv2", "focalnet") else 4**2 // 4
    with torch.inference_mode():
        tokens = model.tokens(make_images(model.spec, 2), masks)
    assert tokens.shape[:3] == (2, 3, count)
    assert len(np.unique(tokens.flatten(0, 2).numpy(), axis=0)) == 2 * 3 * count


@every_family
def test_initial_weights_follow_from_the_generator_alone(family: str) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        return build(*MODELS[family], torch.Generator().manual_seed(seed)).state_dict()

    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, other = weights(0), weights(1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    again = weights(0)
    assert all(torch.equal(first[name], again[name]) for name in first)
    matrices = {
        name for name, value in first.items() if value.ndim > 1 and not torch.equal(value, value[:1].expand_as(value))
    }
    fixed = {name for name in matrices if "pos_embed" in name or "position_index" in name}
    assert {name for name in first if not torch.equal(first[name], other[name])} >= matrices - fixed
    assert len(matrices) > 5


@every_family
def test_opening_a_checkpoint_gives_the_same_model_and_draws_nothing(family: str, tmp_path: Path) -> None:
    model = make_model(family)
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
    native.save(tmp_path, model, training)
    before = torch.get_rng_state()
    opened = native.load(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert type(opened) is type(model)
    assert (opened.spec, opened.architecture) == (model.spec, model.architecture)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=2)
    with torch.inference_mode():
        assert torch.equal(opened.distances(images, masks), model.distances(images, masks))
    assert [value.requires_grad for value in opened.parameters()] == [
        value.requires_grad for value in model.parameters()
    ]


@every_family
def test_training_has_no_dropout(family: str) -> None:
    spec, architecture = MODELS[family]
    if isinstance(architecture, HuggingFaceArchitecture):
        rates = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"), 0.5)
        architecture = architecture.model_copy(update={"config": architecture.config | rates})
    model = build(spec, architecture, torch.Generator().manual_seed(0))
    images, masks = make_images(spec, 4), make_masks(spec, 4, draws=1)
    with torch.no_grad():
        assert torch.equal(model.train().distances(images, masks), model.eval().distances(images, masks))


@every_family
def test_models_can_be_trained_after_one_has_scored(family: str) -> None:
    model, other = make_model(family), make_model(family)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=1)
    with torch.inference_mode():
        model.distances(images, masks)
        tokens = model.tokens(images, torch.zeros_like(masks))
    for each in (model, other):
        trained = [value for value in each.parameters() if value.requires_grad]
        gradients = torch.autograd.grad(each.loss(images, masks), trained, materialize_grads=True)
        assert any(bool(gradient.any()) for gradient in gradients)
    assert bool(tokens.isfinite().all())


@every_family
def test_pictures_are_raw_pixels_for_each_image_and_mask(family: str) -> None:
    model = make_model(family)
    images, masks = make_images(model.spec, 2), make_masks(model.spec, 2, draws=3)
    with torch.inference_mode():
        pictures = model.pictures(images, masks)
        alone = model.pictures(images[1:], masks[1:, 2:])
    assert pictures.shape == (2, 3, 3, 8, 8)
    torch.testing.assert_close(pictures[1:, 2:], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", [name for name in MODELS if name != "mae"])  # MAE's is part of its widths
def test_encoder_alone_encodes_as_the_whole_model(family: str) -> None:
    model = make_model(family)
    assert model.has_decoder
    spec, architecture = MODELS[family]
    encoder = build(spec, architecture.model_copy(update={"decoder": False}))
    assert not encoder.has_decoder
    names = encoder.state_dict().keys()
    assert names < model.state_dict().keys()
    encoder.load_state_dict({name: value for name, value in model.state_dict().items() if name in names}, assign=True)
    masks = torch.from_numpy(random_masks(np.array(["a", "b"]), 1, spec.tokens, 0.5, seed=0))
    with torch.inference_mode():
        images = make_images(spec, 2)
        assert torch.equal(encoder.eval().tokens(images, masks), model.tokens(images, masks))


@pytest.mark.parametrize(
    ("preset", "image_size", "family"),
    [
        ("mae-micro", 32, "mae"),
        ("simmim-micro", 32, "simmim"),
        ("swin-nano", 8, "transformers"),
        ("swin-micro", 32, "transformers"),
        ("swin-base", 192, "transformers"),
        ("beit-micro", 32, "beit"),
        ("beit-base", 224, "beit"),
    ],
)
def test_recipe_names_an_architecture_for_its_usual_images(preset: str, image_size: int, family: str) -> None:
    recipe = Recipe.model_validate({"preset": preset})
    spec = BASE.model_copy(update={"image_size": image_size, "patch_size": recipe.patch_size})
    architecture = architecture_for(recipe, spec)
    assert architecture.family == family
    assert type(architecture).model_validate_json(architecture.model_dump_json()) == architecture


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"preset": "swin-micro", "size": "huge"}, "There is no Swin of the size huge: choose one of nano, micro, "),
        ({"preset": "beit-micro", "size": "huge"}, "There is no BEiT of the size huge: choose one of nano, micro, "),
        (
            {"preset": "swin-micro", "patch_size": 16},
            "A Swin of the size micro halves its grid 2 times, and the images have 2 patches along a side: choose a "
            "patch size that makes it a multiple of 4.",
        ),
    ],
)
def test_size_that_is_not_there_or_does_not_fit_says_so(changes: dict[str, Any], message: str) -> None:
    recipe = Recipe.model_validate(changes)
    spec = BASE.model_copy(update={"image_size": 32, "patch_size": recipe.patch_size})
    with pytest.raises(MimiaError) as caught:
        architecture_for(recipe, spec)
    assert str(caught.value).startswith(message)
