import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from mimia.config.settings import SignalSettings
from mimia.data.file_metadata import FACTS
from mimia.data.imageset import ImageSet
from mimia.models.base import ModelSpec, TargetSpace
from mimia.models.mae import MAE, SIZES
from mimia.models.masking import random_masks
from mimia.report.pictures import bands_note
from mimia.report.sections.gallery import Exhibit
from mimia.report.sections.gallery.pictures import make_gallery, to_data_uri
from mimia.runtime.arrays import Bools, Floats, Pixels, content_id

SETTINGS = SignalSettings(draws=5, seed=4)
GREY = ModelSpec(
    image_size=8,
    channels=1,
    patch_size=2,
    mask_ratio=0.75,
    target_space="normalised",
    mean=(0.4,),
    std=(0.3,),
)
COLOUR = GREY.model_copy(update={"channels": 3, "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3)})

both_spaces = pytest.mark.parametrize("space", ["normalised", "patch-normalised"])
grey_and_colour = pytest.mark.parametrize("spec", [GREY, COLOUR], ids=["grey", "colour"])


def model_of(spec: ModelSpec) -> MAE:
    return MAE(spec, SIZES["nano"], torch.Generator().manual_seed(0)).eval()


def image_set(pixels: Pixels) -> ImageSet:
    return ImageSet(
        pixels=pixels,
        ids=np.array([content_id(image) for image in pixels]),
        names=np.array([f"{number}.png" for number in range(len(pixels))]),
        facts=np.zeros((len(pixels), len(FACTS))),
    )


def show(model: MAE, images: ImageSet) -> tuple[Exhibit, ...]:
    return make_gallery(model, images, ["member"] * len(images), np.zeros(len(images)), SETTINGS)


def first_masks(images: ImageSet) -> Bools:
    """Masks of the first of all draws, (N, L)."""
    return random_masks(images.ids, SETTINGS.draws, GREY.tokens, GREY.mask_ratio, SETTINGS.seed)[:, 0]


def hidden_pixels(mask: Bools) -> Bools:
    """Spread a mask over the pixels, (H, W)."""
    return np.kron(mask.reshape(4, 4), np.ones((2, 2))).astype(bool)


def picture(uri: str) -> Pixels:
    """Decode a picture, (H, W, 3)."""
    header, _, data = uri.partition(",")
    assert header == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))


def rebuilt(model: MAE, image: Pixels, mask: Bools) -> Floats:
    """Paste the prediction of each masked patch into an image: raw pixels in [0, 1], (H, W, C)."""
    spec, side = model.spec, model.spec.patch_size
    with torch.inference_mode():
        predicted = model.reconstruct(torch.tensor(image[None]), torch.tensor(mask[None, None]))[0, 0].numpy()
    canvas = image.transpose(1, 2, 0) / 255
    for place in np.flatnonzero(mask):
        top, left = side * (place // spec.grid[1]), side * (place % spec.grid[1])
        patch = canvas[top : top + side, left : left + side]
        values = predicted[place].reshape(side, side, spec.channels)
        if spec.target_space == "patch-normalised":
            true = (patch - spec.mean) / spec.std
            values = values * np.sqrt(true.var(ddof=1) + 1e-6) + true.mean()
        patch[:] = np.clip(values * spec.std + spec.mean, 0, 1)
    return canvas


@grey_and_colour
def test_original_is_the_image(spec: ModelSpec, photos: Pixels) -> None:
    pixels = photos[:, : spec.channels]
    for exhibit, image in zip(show(model_of(spec), image_set(pixels)), pixels, strict=True):
        np.testing.assert_array_equal(picture(exhibit.original), np.broadcast_to(image.transpose(1, 2, 0), (8, 8, 3)))


@grey_and_colour
def test_masked_patches_are_of_one_grey_and_visible_ones_untouched(spec: ModelSpec, photos: Pixels) -> None:
    images = image_set(photos[:, : spec.channels])
    for exhibit, mask in zip(show(model_of(spec), images), first_masks(images), strict=True):
        original, masked, hidden = picture(exhibit.original), picture(exhibit.masked), hidden_pixels(mask)
        np.testing.assert_array_equal(masked[~hidden], original[~hidden])
        (grey,) = np.unique(masked[hidden])
        assert 128 < grey < 255


@both_spaces
@grey_and_colour
def test_masked_patches_are_rebuilt_as_the_model_predicts_and_visible_ones_untouched(
    spec: ModelSpec, space: TargetSpace, photos: Pixels
) -> None:
    model, images = model_of(spec.model_copy(update={"target_space": space})), image_set(photos[:, : spec.channels])
    for exhibit, image, mask in zip(show(model, images), images.pixels, first_masks(images), strict=True):
        found, hidden = picture(exhibit.reconstructed), hidden_pixels(mask)
        np.testing.assert_allclose(found, np.broadcast_to(255 * rebuilt(model, image, mask), found.shape), atol=0.51)
        np.testing.assert_array_equal(found[~hidden], picture(exhibit.original)[~hidden])


@both_spaces
@grey_and_colour
def test_error_map_is_the_darker_the_larger_the_error_and_white_on_visible_patches(
    spec: ModelSpec, space: TargetSpace, photos: Pixels
) -> None:
    model, images = model_of(spec.model_copy(update={"target_space": space})), image_set(photos[:, : spec.channels])
    errors, shades = [], []
    for exhibit, image, mask in zip(show(model, images), images.pixels, first_masks(images), strict=True):
        found, hidden = picture(exhibit.error), hidden_pixels(mask)
        assert (found[~hidden] == 255).all()
        error = np.abs(rebuilt(model, image, mask) - image.transpose(1, 2, 0) / 255).mean(axis=-1)
        errors += error[hidden].tolist()
        shades += found[hidden].sum(axis=-1, dtype=int).tolist()
    from_small_to_large = np.array(shades)[np.argsort(errors)]
    assert (np.diff(from_small_to_large) <= 0).all()
    assert len(set(shades)) > 20


@grey_and_colour
def test_error_map_is_white_where_the_reconstruction_is_right(spec: ModelSpec) -> None:
    model = model_of(spec.model_copy(update={"mean": (0.4,) * spec.channels}))
    with torch.no_grad():
        model.decoder_pred.weight.zero_()  # every patch is predicted to be of the mean colour
    pixels = np.full((8, spec.channels, 8, 8), 102, np.uint8)
    pixels[:, :, :, 4:] = np.arange(118, 246, 16, dtype=np.uint8).reshape(8, 1, 1, 1)
    images = image_set(pixels)
    shades = []
    for exhibit, mask in zip(show(model, images), first_masks(images), strict=True):
        found, hidden = picture(exhibit.error), hidden_pixels(mask)
        assert (found[:, :4] == 255).all()
        (shade,) = set(found[:, 4:][hidden[:, 4:]].sum(axis=-1, dtype=int).tolist())
        shades.append(shade)
    assert shades[0] < 3 * 255
    assert (np.diff(shades) < 0).all()


@pytest.mark.parametrize(("channels", "shown"), [(2, [0, 0, 0]), (4, [0, 1, 2]), (13, [12, 6, 0])])
def test_pictures_of_bands_show_those_that_are_named(channels: int, shown: list[int]) -> None:
    statistics = {"mean": (0.5,) * channels, "std": (0.25,) * channels}
    model = model_of(GREY.model_copy(update={"channels": channels} | statistics))
    images = image_set(np.random.default_rng(1).integers(0, 256, (3, channels, 8, 8), dtype=np.uint8))
    for exhibit, image, mask in zip(show(model, images), images.pixels, first_masks(images), strict=True):
        np.testing.assert_array_equal(picture(exhibit.original), image[shown].transpose(1, 2, 0))
        expected = 255 * rebuilt(model, image, mask)[..., shown]
        np.testing.assert_allclose(picture(exhibit.reconstructed), expected, atol=0.51)
        np.testing.assert_array_equal(picture(to_data_uri(image)), picture(exhibit.original))
    named = ", ".join(str(band + 1) for band in shown[:2]) + f" and {shown[2] + 1} of {channels} as red, green and blue"
    assert named in bands_note(channels) or bands_note(channels) == "Pictures show the first of 2 bands."


def test_exhibit_tells_the_distance_under_the_mask_that_is_shown(photos: Pixels) -> None:
    model, images = model_of(COLOUR), image_set(photos)
    masks = torch.from_numpy(first_masks(images)[:, None])
    with torch.inference_mode():
        expected = model.distances(torch.from_numpy(photos), masks)[:, 0].tolist()
    assert [exhibit.distance for exhibit in show(model, images)] == pytest.approx(expected, rel=1e-5)


def test_exhibits_stand_in_the_order_of_the_images_with_their_names_groups_and_scores(photos: Pixels) -> None:
    images, groups = image_set(photos), ["member", "non-member", "candidate"] * 2
    exhibits = make_gallery(model_of(COLOUR), images, groups, np.linspace(-1, 1, 6), SETTINGS)
    assert [exhibit.name for exhibit in exhibits] == images.names.tolist()
    assert [exhibit.id for exhibit in exhibits] == images.ids.tolist()
    assert [exhibit.group for exhibit in exhibits] == groups
    assert [exhibit.score for exhibit in exhibits] == np.linspace(-1, 1, 6).tolist()
