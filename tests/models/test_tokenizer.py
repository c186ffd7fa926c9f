from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from torch import Tensor
from transformers import FlavaImageProcessorPil

from mimia.data.imageset import ImageSet
from mimia.models import tokenizer as module
from mimia.models.base import ModelSpec
from mimia.models.patches import patchify, unpatchify
from mimia.models.tokenizer import (
    DalleTokenizer,
    PatchTokenizer,
    TokenizerArchitecture,
    fit_patch_tokenizer,
    make_tokenizer,
)
from mimia.runtime.arrays import Pixels

DALLE = TokenizerArchitecture(kind="dalle", vocabulary=30, config={"hidden_size": 8})


def make_spec(image_size: int = 8, patch_size: int = 2, channels: Literal[1, 3] = 1) -> ModelSpec:
    return ModelSpec(
        image_size=image_size,
        channels=channels,
        patch_size=patch_size,
        masking="blockwise",
        mask_ratio=0.4,
        target_space="tokens",
        mean=(0.5, 0.4, 0.3)[:channels],
        std=(0.2, 0.25, 0.3)[:channels],
    )


def make_images(spec: ModelSpec, count: int) -> Pixels:
    shape = (count, *spec.shape)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def make_patch_tokenizer(spec: ModelSpec, vocabulary: int = 12) -> PatchTokenizer:
    tokenizer = PatchTokenizer(spec, TokenizerArchitecture(vocabulary=vocabulary))
    tokenizer.codebook.normal_(generator=torch.Generator().manual_seed(0))
    return tokenizer


def make_dalle_tokenizer(spec: ModelSpec) -> DalleTokenizer:
    """Make one whose tokens differ from patch to patch, which those of its initial weights hardly do."""
    tokenizer = DalleTokenizer(spec, DALLE, torch.Generator().manual_seed(0))
    for name, value in tokenizer.named_parameters():
        value.data.mul_(20 if "weight" in name else 1)
    return tokenizer


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> Pixels:
    return np.array(digits.pixels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("image_size", "patch_size"), [(8, 2), (9, 3)])
def test_token_of_a_patch_is_the_nearest_entry(image_size: int, patch_size: int, channels: Literal[1, 3]) -> None:
    spec = make_spec(image_size, patch_size, channels)
    tokenizer = make_patch_tokenizer(spec)
    images = make_images(spec, 3)
    found = tokenizer(torch.from_numpy(images))
    assert found.shape == (3, spec.tokens)
    for image, patch in np.ndindex(3, spec.tokens):
        row, column = divmod(patch, spec.grid[1])
        values = [
            (images[image, channel, row * patch_size + p, column * patch_size + q] / 255 - spec.mean[channel])
            / spec.std[channel]
            for p in range(patch_size)
            for q in range(patch_size)
            for channel in range(channels)
        ]
        distances = [
            sum((a - b) ** 2 for a, b in zip(values, entry, strict=True)) for entry in tokenizer.codebook.tolist()
        ]
        assert found[image, patch] == int(np.argmin(distances))


def test_image_made_of_entries_has_their_tokens_and_tokens_decode_to_them() -> None:
    spec = make_spec(channels=3)
    tokenizer = make_patch_tokenizer(spec)
    tokens = torch.randint(12, (4, 16), generator=torch.Generator().manual_seed(1))
    pixels = spec.denormalise(unpatchify(tokenizer.decode(tokens), 2, spec.grid))
    assert torch.equal(tokenizer(pixels), tokens)
    assert tokenizer.decode(tokens[:, None]).shape == (4, 1, 16, 12)


def test_tokens_do_not_depend_on_the_batch_even_between_two_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec()
    tokenizer = make_patch_tokenizer(spec, 8)
    tokenizer.codebook.copy_(tokenizer.codebook[[0, 1, 2, 3, 0, 1, 2, 3]])
    between = (tokenizer.codebook[:4, None] + tokenizer.codebook[None, :4]) / 2  # as near to one as to the other
    pixels = spec.denormalise(unpatchify(between.view(1, 16, 4), 2, spec.grid))
    images = torch.cat([pixels, torch.from_numpy(make_images(spec, 40)) / 255])
    together = tokenizer(images)
    assert together.max() < 4  # the first of equal entries
    for rows in (slice(0, 1), slice(0, 7), slice(3, 41)):
        assert torch.equal(tokenizer(images[rows]), together[rows])
    monkeypatch.setattr(module, "_PAIRS", 100)
    assert torch.equal(tokenizer(images), together)


def squared_error(tokenizer: PatchTokenizer, images: Pixels) -> float:
    """Mean squared distance of patches from their entries."""
    pixels = torch.from_numpy(images)
    patches = patchify(tokenizer.spec.normalise(pixels), tokenizer.spec.patch_size)
    return (tokenizer.decode(tokenizer(pixels)) - patches).square().sum(dim=-1).mean().item()


def test_codebook_is_nearly_as_good_as_that_of_full_k_means(digits: Pixels) -> None:
    spec = make_spec()
    tokenizer = fit_patch_tokenizer(digits, spec, 32, seed=0)
    patches = patchify(spec.normalise(torch.from_numpy(digits)), 2).flatten(0, 1).numpy()
    best = KMeans(32, n_init=1, random_state=0).fit(patches).inertia_ / len(patches)
    assert squared_error(tokenizer, digits) < 1.2 * best
    assert len(np.unique(tokenizer(torch.from_numpy(digits)))) == 32


def test_codebook_follows_from_the_seed_alone(digits: Pixels) -> None:
    spec = make_spec()
    first, other = (fit_patch_tokenizer(digits, spec, 16, seed) for seed in (2**40, 1))
    assert torch.equal(fit_patch_tokenizer(digits, spec, 16, 2**40).codebook, first.codebook)
    assert not torch.equal(first.codebook, other.codebook)


@pytest.mark.parametrize("vocabulary", [2, 3, 4, 5, 50])
def test_vocabulary_is_as_large_as_asked_for_however_few_the_patches(vocabulary: int) -> None:
    spec = make_spec()
    shades = np.array([0, 80, 160, 240], dtype=np.uint8)[np.arange(64) % 4].reshape(4, 1, 4, 4)
    images = shades.repeat(2, axis=2).repeat(2, axis=3)  # four different patches, each of one shade
    tokenizer = fit_patch_tokenizer(images, spec, vocabulary, seed=0)
    assert tokenizer.codebook.shape == (vocabulary, 4)
    assert bool(tokenizer.codebook.isfinite().all())
    assert len(np.unique(tokenizer(torch.from_numpy(images)))) == min(vocabulary, 4)
    if vocabulary >= 4:
        assert squared_error(tokenizer, images) == pytest.approx(0, abs=1e-9)


def test_few_more_patches_than_entries_make_a_codebook_without_a_warning(digits: Pixels) -> None:
    spec = make_spec()
    different = len(np.unique(patchify(torch.from_numpy(digits[:3]), 2).flatten(0, 1).numpy(), axis=0))
    for vocabulary in range(different - 3, different + 2):
        tokenizer = fit_patch_tokenizer(digits[:3], spec, vocabulary, seed=0)
        assert tokenizer.codebook.shape == (vocabulary, 4)
        assert len(np.unique(tokenizer(torch.from_numpy(digits[:3])))) > 0.6 * vocabulary


def test_only_a_bounded_number_of_images_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_PATCHES", 320)
    many = 2**34 // 64  # 16 GiB of images, in a file of which all is a hole
    with (tmp_path / "pixels.u8").open("wb") as file:
        file.truncate(many * 64)
    pixels = np.memmap(tmp_path / "pixels.u8", np.uint8, "r", shape=(many, 1, 8, 8))
    tokenizer = fit_patch_tokenizer(pixels, make_spec(), 3, seed=0)
    torch.testing.assert_close(tokenizer.codebook, torch.full((3, 4), -0.5 / 0.2))


def test_fingerprint_names_the_weights() -> None:
    spec = make_spec()
    tokenizer, again = make_patch_tokenizer(spec), make_patch_tokenizer(spec)
    assert tokenizer.fingerprint == again.fingerprint
    again.codebook[3, 1] += 1e-6
    assert tokenizer.fingerprint != again.fingerprint
    dalle = make_dalle_tokenizer(make_spec(channels=3))
    assert dalle.fingerprint not in (tokenizer.fingerprint, again.fingerprint)


def dalle_images(spec: ModelSpec) -> Tensor:
    return torch.from_numpy(make_images(spec, 2))


def test_tokens_of_dalle_are_those_of_pixels_from_the_processor_of_flava() -> None:
    spec = make_spec(image_size=32, patch_size=8, channels=3)  # as large as DALL-E wants it: nothing is resized
    tokenizer = make_dalle_tokenizer(spec)
    side = {"height": 32, "width": 32}
    processor: Any = FlavaImageProcessorPil(size=side, crop_size=side, codebook_size=side, codebook_crop_size=side)
    images = dalle_images(spec)
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]
    pixels = processor(pictures, return_codebook_pixels=True, return_tensors="pt")["codebook_pixel_values"]
    expected = tokenizer.codebook.get_codebook_indices(pixels).flatten(1)
    assert torch.equal(tokenizer(images), expected)
    assert len(np.unique(expected)) > 5


@pytest.mark.parametrize(("patch_size", "channels"), [(4, 3), (16, 3), (8, 1)])
def test_dalle_gives_one_token_for_each_patch(patch_size: int, channels: Literal[1, 3]) -> None:
    spec = make_spec(32, patch_size, channels)
    tokenizer = make_dalle_tokenizer(spec)
    images = dalle_images(spec)
    tokens = tokenizer(images)
    assert tokens.shape == (2, spec.tokens)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, tokenizer(images.float() / 255))
    assert torch.equal(tokens[1:], tokenizer(images[1:]))


def test_grey_images_are_for_dalle_what_they_are_in_colour() -> None:
    grey, colour = (make_dalle_tokenizer(make_spec(32, 8, channels)) for channels in (1, 3))
    images = dalle_images(grey.spec)
    assert torch.equal(grey(images), colour(images.expand(-1, 3, -1, -1)))


def test_tokens_of_dalle_do_not_depend_on_the_precision_of_the_model() -> None:
    spec = make_spec(32, 8, 3)
    tokenizer = make_dalle_tokenizer(spec)
    images = dalle_images(spec)
    expected = tokenizer(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer(images), expected)


@pytest.mark.parametrize("architecture", [TokenizerArchitecture(vocabulary=30), DALLE], ids=["patches", "dalle"])
def test_tokenizer_has_nothing_to_train(architecture: TokenizerArchitecture) -> None:
    tokenizer = make_tokenizer(make_spec(channels=3), architecture, torch.Generator().manual_seed(0))
    assert tokenizer.architecture == architecture
    assert not [name for name, value in tokenizer.named_parameters() if value.requires_grad]
    assert tokenizer.state_dict()
