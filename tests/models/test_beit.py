import math
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import BeitConfig, BeitForMaskedImageModeling

from mimia.config.recipes import Recipe, SizeName
from mimia.models.base import ModelSpec
from mimia.models.beit import BEiT, BEiTArchitecture, beit_architecture
from mimia.models.masking import random_masks
from mimia.models.patches import unpatchify
from mimia.models.tokenizer import PatchTokenizer, TokenizerArchitecture
from mimia.pretraining.schedule import make_optimizer

CODEBOOK = TokenizerArchitecture(vocabulary=20)
DALLE = TokenizerArchitecture(kind="dalle", vocabulary=20, config={"hidden_size": 8})
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
CONFIGS: list[dict[str, Any]] = [  # positions, normalisation and scales as people have them
    SHAPE | {"use_shared_relative_position_bias": True, "layer_norm_eps": 1e-6},
    SHAPE | {"use_relative_position_bias": True, "layer_scale_init_value": 0.0},
    SHAPE | {"use_absolute_position_embeddings": True, "use_mean_pooling": False},
]


def make_spec(image_size: int = 32, patch_size: int = 4, channels: Literal[1, 3] = 3) -> ModelSpec:
    return ModelSpec(
        image_size=image_size,
        channels=channels,
        patch_size=patch_size,
        masking="blockwise",
        mask_ratio=75 / 196,
        target_space="tokens",
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )


def make_model(spec: ModelSpec, architecture: BEiTArchitecture) -> BEiT:
    """Make a model in which no two parameters are alike, so that none can stand in for another."""
    generator = torch.Generator().manual_seed(0)
    model = BEiT(spec, architecture, generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    if isinstance(model.tokenizer, PatchTokenizer):
        model.tokenizer.codebook.normal_(generator=generator)
    return model


def make_images(spec: ModelSpec, count: int) -> Tensor:
    shape = (count, *spec.shape)
    return torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def make_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    ids = np.array([f"image {number}" for number in range(count)])
    return torch.from_numpy(spec.scoring_masks(ids, draws, seed=0))


def make_unequal_masks(spec: ModelSpec, count: int, draws: int) -> Tensor:
    masks = torch.rand(count, draws, spec.tokens, generator=torch.Generator().manual_seed(0)) < 0.4
    assert len(np.unique(masks.sum(dim=-1))) > 2
    return masks


@pytest.mark.parametrize("tokenizer", [CODEBOOK, DALLE], ids=["patches", "dalle"])
@pytest.mark.parametrize("config", CONFIGS, ids=["shared bias", "bias of each layer", "absolute positions"])
@pytest.mark.parametrize(("image_size", "channels"), [(32, 3), (20, 1)])
def test_logits_and_distances_are_those_of_transformers_for_one_image_and_mask(
    config: dict[str, Any], tokenizer: TokenizerArchitecture, image_size: int, channels: Literal[1, 3]
) -> None:
    spec = make_spec(image_size, channels=channels)
    model = make_model(spec, BEiTArchitecture(config=config, tokenizer=tokenizer))
    shape: dict[str, Any] = {"image_size": image_size, "patch_size": 4, "num_channels": channels, "vocab_size": 20}
    reference: Any = BeitForMaskedImageModeling(BeitConfig(**config, **shape, use_mask_token=True))
    weights = {name: value for name, value in model.state_dict().items() if name.startswith("model.")}
    reference.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()}, strict=True)
    reference.eval()
    images, masks = make_images(spec, 2), make_unequal_masks(spec, 2, draws=2)
    with torch.no_grad():
        logits, distances = model.reconstruct(images, masks), model.distances(images, masks)
        for image, draw in np.ndindex(2, 2):
            mask = masks[image, draw][None]
            target = model.tokenizer(images[image : image + 1])[mask]
            expected = reference(spec.normalise(images[image : image + 1]), bool_masked_pos=mask, labels=target)
            torch.testing.assert_close(logits[image, draw], expected.logits[0], rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(distances[image, draw], expected.loss, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.loss(images, masks), distances.mean())


def test_distance_is_the_mean_cross_entropy_of_the_masked_patches_tokens() -> None:
    spec = make_spec(8, 2, 1)
    model = make_model(spec, beit_architecture("nano", CODEBOOK))
    images, masks = make_images(spec, 2), make_unequal_masks(spec, 2, draws=3)
    with torch.inference_mode():
        logits, distances = model.reconstruct(images, masks).double(), model.distances(images, masks)
        target = model.tokenizer(images)
    for image, draw in np.ndindex(2, 3):
        errors = []
        for patch in torch.nonzero(masks[image, draw]).flatten().tolist():
            values = logits[image, draw, patch].tolist()
            norm = math.log(sum(math.exp(value) for value in values))
            errors.append(norm - values[int(target[image, patch])])
        assert distances[image, draw].item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)


def test_targets_are_tokens_of_the_image_without_a_mask() -> None:
    spec = make_spec(8, 2, 1)
    model = make_model(spec, beit_architecture("nano", CODEBOOK))
    images, masks = make_images(spec, 1), make_masks(spec, 1, draws=1)
    hidden = unpatchify(masks[:, 0, :, None].expand(-1, -1, 4).contiguous(), 2, spec.grid)
    other = torch.where(hidden, 255 - images, images)
    with torch.inference_mode():
        predictions = model.reconstruct(images, masks)
        assert torch.equal(predictions, model.reconstruct(other, masks))
        assert not torch.equal(model.tokenizer(images), model.tokenizer(other))
        assert not torch.isclose(model.distances(images, masks), model.distances(other, masks))


def test_visible_patches_are_encoded_before_the_head() -> None:
    spec = make_spec()
    model = make_model(spec, beit_architecture("nano", CODEBOOK))
    images = make_images(spec, 2)
    masks = torch.from_numpy(random_masks(np.array(["a", "b"]), 2, spec.tokens, 0.6, seed=0))
    with torch.no_grad():
        tokens, logits = model.tokens(images, masks), model.reconstruct(images, masks)
        expected = model.model.lm_head(model.model.layernorm(tokens))
    torch.testing.assert_close(expected, logits[~masks].view(expected.shape), rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="same number of patches"):
        model.tokens(images, make_unequal_masks(spec, 2, draws=2))


def test_picture_shows_the_entry_of_the_likeliest_token() -> None:
    spec = make_spec(8, 2, 3)
    model = make_model(spec, beit_architecture("nano", CODEBOOK))
    assert isinstance(model.tokenizer, PatchTokenizer)
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    with torch.inference_mode():
        pictures, logits = model.pictures(images, masks), model.reconstruct(images, masks)
    for image, draw, patch in np.ndindex(2, 2, 16):
        row, column = (2 * place for place in divmod(patch, 4))
        entry = model.tokenizer.codebook[logits[image, draw, patch].argmax()].view(2, 2, 3)
        shown = pictures[image, draw, :, row : row + 2, column : column + 2].permute(1, 2, 0)
        torch.testing.assert_close(shown, entry * torch.tensor(spec.std) + torch.tensor(spec.mean))


def test_picture_without_a_decoder_of_tokens_is_the_image_with_grey_patches() -> None:
    spec = make_spec(8, 2, 3)
    model = make_model(spec, beit_architecture("nano", DALLE))
    images, masks = make_images(spec, 2), make_masks(spec, 2, draws=2)
    with torch.inference_mode():
        pictures = model.pictures(images, masks)
    for image, draw, row, column in np.ndindex(2, 2, 8, 8):
        masked = masks[image, draw, row // 2 * 4 + column // 2]
        expected = torch.full((3,), 0.5) if masked else images[image, :, row, column] / 255
        torch.testing.assert_close(pictures[image, draw, :, row, column], expected)


@pytest.mark.parametrize("tokenizer", [CODEBOOK, DALLE], ids=["patches", "dalle"])
def test_tokenizer_is_in_the_checkpoint_but_not_in_the_optimizer(tokenizer: TokenizerArchitecture) -> None:
    spec = make_spec(8, 2, 3)
    model = make_model(spec, beit_architecture("nano", tokenizer))
    optimizer = make_optimizer(model, Recipe.model_validate({"preset": "beit-nano"}))
    trained = {id(value) for group in optimizer.param_groups for value in group["params"]}
    assert trained == {id(value) for value in model.model.parameters()}
    before = model.tokenizer.fingerprint
    assert [name for name in model.state_dict() if name.startswith("tokenizer.")]
    images, masks = make_images(spec, 4), make_masks(spec, 4, draws=1)
    losses = []
    for _ in range(30):
        loss: Any = model.loss(images, masks)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]
    assert model.tokenizer.fingerprint == before


@pytest.mark.parametrize(
    ("size", "width", "depth", "heads", "scale"),
    [("tiny", 192, 12, 3, 0.1), ("small", 384, 12, 6, 0.1), ("base", 768, 12, 12, 0.1), ("large", 1024, 24, 16, 1e-5)],
)
def test_sizes_are_those_of_beit(size: SizeName, width: int, depth: int, heads: int, scale: float) -> None:
    config = beit_architecture(size, CODEBOOK).config
    assert (config["hidden_size"], config["num_hidden_layers"], config["num_attention_heads"]) == (width, depth, heads)
    assert (config["intermediate_size"], config["layer_scale_init_value"]) == (4 * width, scale)
