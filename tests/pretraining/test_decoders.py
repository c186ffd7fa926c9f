from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LinearRegression

from mimia.config.recipes import Recipe
from mimia.config.settings import DecoderSettings
from mimia.data.imageset import ImageSet
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints import native
from mimia.models.mae import MAE, SIZES, MAEArchitecture, of_decoder
from mimia.models.registry import architecture_for, build, decoder_interface
from mimia.pretraining.alignment import linear_map
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.decoders import borrowed_decoder, fitted_decoder, with_decoders, with_latent_decoders
from mimia.pretraining.specs import spec_for
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store

RECIPE = Recipe.model_validate({"preset": "mae-nano", "batch_size": 20})
FITTING = DecoderSettings(source="fitted", epochs=3, batch_size=20)


def context_in(store: Store) -> TrainingContext:
    return TrainingContext(ComputeSettings(device="cpu", threads=1), store)


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(120))


def make_mae(images: ImageSet, seed: int, architecture: MAEArchitecture = SIZES["nano"]) -> MAE:
    """Make a model in which no two parameters are alike."""
    generator = torch.Generator().manual_seed(seed)
    model = MAE(spec_for(images, RECIPE), architecture, generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def without_decoder(model: MAE) -> MAE:
    sizes = {"decoder_width": 0, "decoder_depth": 0, "decoder_heads": 0}
    alone = MAE(model.spec, model.architecture.model_copy(update=sizes))
    alone.load_state_dict({name: value for name, value in model.state_dict().items() if not of_decoder(name)})
    return alone.eval()


def mean_distance(model: MaskedImageModel, images: ImageSet) -> float:
    masks = torch.from_numpy(model.spec.scoring_masks(images.ids, 4, seed=1))
    with torch.inference_mode():
        return float(model.distances(torch.from_numpy(images.pixels), masks).mean())


def save(path: Path, model: MaskedImageModel) -> Path:
    native.save(path, model)
    return path


def fit(encoder: MAE, images: ImageSet, work: Path, settings: DecoderSettings = FITTING) -> MAE:
    context = context_in(Store(work / "store"))
    fitted = native.load(fitted_decoder(save(work / "encoder", encoder), images, RECIPE, settings, context))
    assert isinstance(fitted, MAE)
    return fitted


def test_fitted_decoder_learns_and_leaves_the_encoder_as_it_is(digits: ImageSet, tmp_path: Path) -> None:
    encoder = without_decoder(make_mae(digits, 0))
    fitted = fit(encoder, digits, tmp_path)
    weights = fitted.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    assert mean_distance(fitted, digits) < 0.9 * mean_distance(make_mae(digits, 0), digits)


def test_decoder_of_latents_learns_what_the_encoder_makes_of_hidden_patches(
    digits: ImageSet, store: Store, tmp_path: Path
) -> None:
    encoder = make_mae(digits, 0)
    native.save(tmp_path / "encoder", encoder)
    never = FITTING.model_copy(update={"base_learning_rate": 1e-30})
    distances = []
    for settings in (FITTING, never):
        made = with_latent_decoders({"target": tmp_path / "encoder"}, digits, RECIPE, settings, context_in(store))
        fitted = native.load(made["target"])
        assert fitted.spec.target_space == "latents"
        weights = fitted.state_dict()
        assert all(torch.equal(value, weights[name]) for name, value in without_decoder(encoder).state_dict().items())
        assert isinstance(fitted, MAE)
        distances.append(mean_distance(fitted, digits))
    assert distances[0] < 0.8 * distances[1]


def test_decoder_of_the_encoder_itself_is_not_used(digits: ImageSet, tmp_path: Path) -> None:
    model = make_mae(digits, 0)
    alone, whole = fit(without_decoder(model), digits, tmp_path / "alone"), fit(model, digits, tmp_path / "whole")
    weights = whole.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in alone.state_dict().items())


def test_decoders_of_all_encoders_start_and_are_shown_alike(digits: ImageSet, tmp_path: Path) -> None:
    first, again = (fit(make_mae(digits, 0), digits, tmp_path / name).state_dict() for name in ("first", "again"))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    untrained = FITTING.model_copy(update={"epochs": 1, "base_learning_rate": 1e-30})
    starts = [fit(make_mae(digits, seed), digits, tmp_path / f"{seed}", untrained).state_dict() for seed in (0, 1)]
    for name, value in starts[0].items():
        if of_decoder(name):
            torch.testing.assert_close(value, starts[1][name], rtol=0, atol=1e-20)


def test_borrowed_decoder_is_the_lenders_behind_the_encoder(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    encoder, donor = make_mae(digits, 0), make_mae(digits, 1)
    checkpoints = save(tmp_path / "encoder", encoder), save(tmp_path / "donor", donor)
    joined = native.load(borrowed_decoder(*checkpoints, store)).state_dict()
    for name, value in joined.items():
        owner = donor if of_decoder(name) else encoder
        assert torch.equal(value, owner.state_dict()[name])


def test_aligned_decoder_reads_latents_that_are_a_linear_map_of_its_own(
    digits: ImageSet, store: Store, tmp_path: Path
) -> None:
    donor = make_mae(digits, 0)
    encoder = make_mae(digits, 0)
    with torch.no_grad():  # the same encoder, but for the scale and place of each value in its latent
        scale = torch.linspace(0.5, 2, encoder.architecture.width)
        encoder.norm.weight.mul_(scale)
        encoder.norm.bias.copy_(encoder.norm.bias * scale + 0.3)
    checkpoints = save(tmp_path / "encoder", encoder), save(tmp_path / "donor", donor)
    plain = native.load(borrowed_decoder(*checkpoints, store))
    aligned = native.load(borrowed_decoder(*checkpoints, store, digits))
    masks = torch.from_numpy(donor.spec.scoring_masks(digits.ids, 2, seed=5))
    pixels = torch.from_numpy(digits.pixels)
    with torch.inference_mode():
        expected, found = donor.reconstruct(pixels, masks), aligned.reconstruct(pixels, masks)
        unaligned = plain.reconstruct(pixels, masks)
    error = float((found - expected).square().mean() / expected.var())
    assert error < 0.05
    assert float((unaligned - expected).square().mean() / expected.var()) > 5 * error


def test_linear_map_is_the_least_squares_one(digits: ImageSet) -> None:
    source, to = make_mae(digits, 0), make_mae(digits, 1)
    weight, bias = linear_map(source, to, digits, seed=3)
    masks = torch.from_numpy(source.spec.scoring_masks(digits.ids, 1, 3))
    pixels = torch.from_numpy(digits.pixels)
    with torch.inference_mode():
        x, y = source.encode(pixels, masks).flatten(0, 2).numpy(), to.encode(pixels, masks).flatten(0, 2).numpy()
    regression = LinearRegression().fit(x, y)
    residual = ((y - x @ weight.numpy().T - bias.numpy()) ** 2).mean()
    best = ((y - regression.predict(x)) ** 2).mean()
    assert best <= residual < 1.1 * best


@pytest.mark.parametrize("source", ["fitted", "shadow", "aligned"])
def test_no_encoder_keeps_the_decoder_it_was_trained_with(
    digits: ImageSet, store: Store, tmp_path: Path, source: str
) -> None:
    encoders = {name: save(tmp_path / name, make_mae(digits, seed)) for seed, name in enumerate("tab")}
    donors = [encoders["a"], encoders["b"]]
    settings = DecoderSettings.model_validate({"source": source, "epochs": 1})
    made = with_decoders(encoders, donors, digits, RECIPE, settings, context_in(store))
    for before, after in zip(encoders.values(), made.values(), strict=True):
        old, new = native.load(before).state_dict(), native.load(after).state_dict()
        assert all(torch.equal(old[name], new[name]) != of_decoder(name) for name in old if "pos_embed" not in name)
    assert with_decoders(encoders, donors, digits, RECIPE, settings, context_in(store)) == made


def test_models_that_saw_images_in_question_borrow_decoders_and_lend_none(
    digits: ImageSet, store: Store, tmp_path: Path
) -> None:
    encoders = {name: save(tmp_path / name, make_mae(digits, seed)) for seed, name in enumerate("taboc")}
    donors = [encoders["a"], encoders["b"]]
    made = with_decoders(encoders, donors, digits, RECIPE, DecoderSettings(source="shadow"), context_in(store))
    whole = [native.load(path).state_dict() for path in encoders.values()]
    for encoder, path in zip(whole, made.values(), strict=True):
        joined = native.load(path).state_dict()
        assert torch.equal(joined["norm.weight"], encoder["norm.weight"])
        lent_by = [
            place
            for place, each in enumerate(whole)
            if torch.equal(each["decoder_norm.weight"], joined["decoder_norm.weight"])
        ]
        assert lent_by in ([1], [2])


def test_single_shadow_cannot_lend_to_itself(digits: ImageSet, store: Store, tmp_path: Path) -> None:
    encoders = {name: save(tmp_path / name, make_mae(digits, seed)) for seed, name in enumerate("ta")}
    with pytest.raises(MimiaError, match=r"raise shadows\.count to 2"):
        with_decoders(encoders, [encoders["a"]], digits, RECIPE, DecoderSettings(source="shadow"), context_in(store))


@pytest.mark.parametrize("how", ["fitted", "latents", "borrowed"])
def test_decoders_of_mae_are_found_under_the_keys_of_earlier_runs(
    digits: ImageSet, store: Store, tmp_path: Path, how: str
) -> None:
    encoder, donor = save(tmp_path / "encoder", make_mae(digits, 0)), save(tmp_path / "donor", make_mae(digits, 1))
    spec = native.load(encoder).spec
    if how == "borrowed":
        made = borrowed_decoder(encoder, donor, store, digits, seed=4)
        key = {"how": "borrowed", "encoder": native.model_id(encoder), "donor": native.model_id(donor)}
        assert made == store.find("decoders", key | {"aligned on": [digits.fingerprint, 4]})
        return
    if how == "latents":
        made = with_latent_decoders({"a": encoder}, digits, RECIPE, FITTING, context_in(store))["a"]
        spec = spec.model_copy(update={"target_space": "latents"})
    else:
        made = fitted_decoder(encoder, digits, RECIPE, FITTING, context_in(store))
    recipe = RECIPE.model_copy(update=FITTING.model_dump(include={"epochs", "batch_size", "base_learning_rate"}))
    assert made == store.find(
        "decoders",
        {
            "how": "fitted",
            "encoder": native.model_id(encoder),
            "spec": spec.model_dump(mode="json"),
            "images": digits.fingerprint,
            "recipe": recipe.identity | {"seed": recipe.seed},
            "precision": ComputeSettings().precision,
        },
    )


OTHERS = ["simmim-nano", "swin-nano", "beit-nano"]


def recipe_of(preset: str) -> Recipe:
    sizes: dict[str, object] = {"vocabulary": 16} if preset.startswith("beit") else {}
    return Recipe.model_validate({"preset": preset, "patch_size": 2, "batch_size": 20, **sizes})


def make(images: ImageSet, preset: str, seed: int, **changes: object) -> MaskedImageModel:
    """Make a model of any family in which no two parameters are alike."""
    recipe, generator = recipe_of(preset), torch.Generator().manual_seed(seed)
    spec = spec_for(images, recipe)
    model = build(spec, architecture_for(recipe, spec).model_copy(update=changes), generator).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.05 * torch.randn(value.shape, generator=generator))
    return model


def encoder_names(model: MaskedImageModel) -> set[str]:
    interface = decoder_interface(model)
    names = {name for name in model.state_dict() if not interface.contains(name)}
    assert any(map(interface.is_mask_token, model.state_dict())) == model.architecture.model_dump().get(
        "mask_token", True
    )
    return {name for name in names if not interface.is_mask_token(name)}


@pytest.mark.parametrize("preset", OTHERS)
@pytest.mark.parametrize("mask_token", [True, False])
def test_decoder_of_any_family_learns_and_leaves_the_encoder_as_it_is(
    digits: ImageSet, tmp_path: Path, preset: str, mask_token: bool
) -> None:
    encoder = make(digits, preset, 0, decoder=False, mask_token=mask_token)
    checkpoint, context = save(tmp_path / "encoder", encoder), context_in(Store(tmp_path / "store"))
    learned, start = (
        native.load(fitted_decoder(checkpoint, digits, recipe_of(preset), settings, context))
        for settings in (
            FITTING.model_copy(update={"epochs": 4, "base_learning_rate": 0.1}),
            FITTING.model_copy(update={"epochs": 1, "base_learning_rate": 1e-30}),
        )
    )
    assert learned.has_decoder
    assert learned.spec.target_space == encoder.spec.target_space
    weights, at_first = learned.state_dict(), start.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())
    for name in weights.keys() - encoder.state_dict().keys():  # a codebook of the images is made before the fit
        assert torch.equal(weights[name], at_first[name]) == name.startswith("tokenizer."), name
    assert mean_distance(learned, digits) < 0.97 * mean_distance(start, digits)


@pytest.mark.parametrize("preset", OTHERS)
@pytest.mark.parametrize("source", ["fitted", "aligned"])
def test_no_encoder_keeps_the_mask_token_that_the_target_lacks(
    digits: ImageSet, store: Store, tmp_path: Path, preset: str, source: str
) -> None:
    models = {"target": make(digits, preset, 0, decoder=False, mask_token=False)}
    models |= {name: make(digits, preset, seed) for seed, name in enumerate("ab", 1)}
    encoders = {name: save(tmp_path / name, model) for name, model in models.items()}
    settings = DecoderSettings.model_validate({"source": source, "epochs": 1})
    donors = [encoders["a"], encoders["b"]]
    made = with_decoders(encoders, donors, digits, recipe_of(preset), settings, context_in(store))
    token = decoder_interface(models["a"]).is_mask_token
    tokens = []
    for name, path in made.items():
        weights, before = native.load(path).state_dict(), models[name].state_dict()
        assert all(torch.equal(before[each], weights[each]) for each in encoder_names(models[name]))
        tokens += [value for each, value in weights.items() if token(each)]
        assert not any(torch.equal(value, tokens[-1]) for each, value in before.items() if token(each))
    assert len(tokens) == 3
    if source == "aligned":
        first, second = (value for name in "ab" for each, value in models[name].state_dict().items() if token(each))
        assert [torch.equal(value, first) for value in tokens] == [True, False, True]
        assert torch.equal(tokens[1], second)


@pytest.mark.parametrize("preset", OTHERS)
def test_aligned_decoder_of_any_family_reads_latents_that_are_a_linear_map_of_its_own(
    digits: ImageSet, store: Store, tmp_path: Path, preset: str
) -> None:
    donor, encoder = make(digits, preset, 0), make(digits, preset, 0)
    norm = {"simmim-nano": "encoder.norm", "swin-nano": "model.swin.layernorm"}.get(preset)
    with torch.no_grad():  # the same encoder, but for the scale and place of each value in its latent
        if norm is not None:
            layer = encoder.get_submodule(norm)
            assert isinstance(layer, torch.nn.LayerNorm)
            scale = torch.linspace(0.5, 2, len(layer.weight))
            layer.weight.mul_(scale)
            layer.bias.copy_(layer.bias * scale + 0.3)
    checkpoints = save(tmp_path / "encoder", encoder), save(tmp_path / "donor", donor)
    plain, aligned = (native.load(borrowed_decoder(*checkpoints, store, given)) for given in (None, digits))
    masks = torch.from_numpy(donor.spec.scoring_masks(digits.ids, 2, seed=5))
    pixels = torch.from_numpy(digits.pixels)
    with torch.inference_mode():
        expected, found, unaligned = (model.reconstruct(pixels, masks)[masks] for model in (donor, aligned, plain))
    assert float((found - expected).square().mean() / expected.var()) < 0.05
    assert norm is None or float((unaligned - expected).square().mean() / expected.var()) > 0.2


@pytest.mark.parametrize("preset", OTHERS)
def test_latents_are_what_the_first_layer_reads_of_masked_patches(digits: ImageSet, preset: str) -> None:
    model = make(digits.take(np.arange(8)), preset, 0)
    interface, read = decoder_interface(model), []
    masks = torch.from_numpy(model.spec.scoring_masks(digits.ids[:8], 1, seed=5))
    pixels = torch.from_numpy(digits.pixels[:8])
    with torch.inference_mode():
        latents = interface.latents(model, pixels, masks)
        layer = interface.first_layer(model)
        assert layer.bias is not None
        predicted = latents @ layer.weight.flatten(1).T + layer.bias
        if preset == "simmim-nano":  # whose layer is applied as a function
            values = predicted.view(*predicted.shape[:1], model.spec.channels, -1).transpose(1, 2).flatten(1)
            torch.testing.assert_close(values, model.reconstruct(pixels, masks)[masks])
            return
        handle = layer.register_forward_hook(lambda _, given, out: read.append((given[0], out)))
        model.reconstruct(pixels, masks)
        handle.remove()
    seen, out = read[0]
    if preset == "swin-nano":  # a map of last tokens, each of 2 × 2 patches
        hidden = masks.view(-1, 2, 2, 2, 2).any(dim=4).any(dim=2).flatten(1)
        seen, out = seen.flatten(2).transpose(1, 2)[hidden], out.flatten(2).transpose(1, 2)[hidden]
    else:
        seen, out = seen[masks[:, 0]], out[masks[:, 0]]
    torch.testing.assert_close(latents, seen)
    torch.testing.assert_close(predicted, out)


@pytest.mark.parametrize("preset", OTHERS)
def test_decoder_of_latents_is_refused_for_other_families(
    digits: ImageSet, store: Store, tmp_path: Path, preset: str
) -> None:
    encoder = save(tmp_path / "encoder", make(digits, preset, 0))
    with pytest.raises(MimiaError, match="has no decoder of latents") as error:
        with_latent_decoders({"target": encoder}, digits, recipe_of(preset), FITTING, context_in(store))
    assert str(tmp_path) not in str(error.value)
