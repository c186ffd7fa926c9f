"""Models that are compared predict the same tokens: those of the target's tokenizer."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mimia.config.image_settings import SplitSettings
from mimia.config.recipes import Recipe
from mimia.data.drawing import SplitRequirements, split_for_audit
from mimia.data.imageset import ImageSet
from mimia.data.splits import Split
from mimia.models.base import ModelSpec
from mimia.models.beit import BEiT, beit_architecture
from mimia.models.checkpoints import native
from mimia.models.tokenizer import Tokenizer, TokenizerArchitecture, fit_patch_tokenizer
from mimia.pretraining.context import TrainingContext
from mimia.pretraining.pool import pretrained, pretrained_shadows, tokenizer_of
from mimia.pretraining.specs import spec_for
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.seeds import derived_seed
from mimia.runtime.store import Store


def context_in(store: Store, tokenizer: Tokenizer | None = None) -> TrainingContext:
    return TrainingContext(ComputeSettings(device="cpu", threads=1), store, tokenizer)


@pytest.fixture(scope="module")
def digits(digits: ImageSet) -> ImageSet:
    return digits.take(np.arange(90))


@pytest.fixture
def split(digits: ImageSet) -> Split:
    return split_for_audit(
        digits, {"source": np.arange(90)}, SplitSettings(shadow_size=15), SplitRequirements(shadows=2)
    )


@pytest.fixture
def spec(digits: ImageSet) -> ModelSpec:
    return spec_for(digits, make_recipe())


def make_recipe(**changes: Any) -> Recipe:
    return Recipe.model_validate({"preset": "beit-nano", "epochs": 1, "batch_size": 10, "vocabulary": 16} | changes)


def beit(checkpoint: Path) -> BEiT:
    model = native.load(checkpoint)
    assert isinstance(model, BEiT)
    return model


def test_target_makes_its_tokenizer_of_its_own_images(digits: ImageSet, spec: ModelSpec, store: Store) -> None:
    images = digits.take(np.arange(20))
    target = beit(pretrained(images, spec, make_recipe(), 5, context_in(store)))
    expected = fit_patch_tokenizer(images.pixels, spec, 16, derived_seed(5, "tokenizer"))
    assert target.tokenizer.fingerprint == expected.fingerprint
    tokens = target.tokenizer(torch.from_numpy(images.pixels))
    assert len(np.unique(tokens)) == 16


def test_shadows_predict_the_tokens_of_the_target(
    digits: ImageSet, split: Split, spec: ModelSpec, store: Store
) -> None:
    recipe = make_recipe()
    images = digits.take(split.evaluated.members.rows)
    target = pretrained(images, spec, recipe, recipe.seed, context_in(store))
    shadows = pretrained_shadows(digits, split, spec, recipe, context_in(store, tokenizer_of(target)))
    models = [beit(path) for path in (target, *shadows)]
    assert len({model.tokenizer.fingerprint for model in models}) == 1
    assert len({native.model_id(path) for path in (target, *shadows)}) == 3
    strangers = [beit(path) for path in pretrained_shadows(digits, split, spec, recipe, context_in(store))]
    assert len({model.tokenizer.fingerprint for model in (*models, *strangers)}) == 3


def test_tokenizer_is_part_of_the_name_of_a_model_by_its_content(
    digits: ImageSet, spec: ModelSpec, store: Store, tmp_path: Path
) -> None:
    images, recipe = digits.take(np.arange(20)), make_recipe()
    tokenizers = [fit_patch_tokenizer(digits.pixels, spec, 16, seed) for seed in (0, 1)]
    paths = [pretrained(images, spec, recipe, 0, context_in(store, each)) for each in (None, *tokenizers)]
    assert len(set(paths)) == 3
    native.save(tmp_path / "other", beit(paths[1]))
    again = tokenizer_of(tmp_path / "other")
    assert pretrained(images, spec, recipe, 0, context_in(store, again)) == paths[1]


def test_shadows_of_a_target_with_the_tokens_of_dalle_predict_them_too(
    digits: ImageSet, spec: ModelSpec, store: Store, tmp_path: Path
) -> None:
    dalle = TokenizerArchitecture(kind="dalle", vocabulary=30, config={"hidden_size": 8})
    target = BEiT(spec, beit_architecture("nano", dalle), torch.Generator().manual_seed(0))
    native.save(tmp_path / "target", target)
    tokenizer = tokenizer_of(tmp_path / "target")
    images = digits.take(np.arange(20))
    shadow = beit(pretrained(images, spec, make_recipe(), 1, context_in(store, tokenizer)))
    assert shadow.architecture.tokenizer == dalle
    assert shadow.tokenizer.fingerprint == target.tokenizer.fingerprint


def test_models_without_tokens_have_no_tokenizer(
    digits: ImageSet, spec: ModelSpec, store: Store, tmp_path: Path
) -> None:
    recipe = Recipe.model_validate({"preset": "mae-nano", "epochs": 1})
    path = pretrained(digits.take(np.arange(20)), spec_for(digits, recipe), recipe, 0, context_in(store))
    assert tokenizer_of(path) is None
    architecture = beit_architecture("nano", TokenizerArchitecture(vocabulary=4))
    native.save(tmp_path / "encoder", BEiT(spec, architecture.model_copy(update={"decoder": False})))
    assert tokenizer_of(tmp_path / "encoder") is None


@pytest.mark.parametrize(("target", "family", "what"), [("beit", "mae", "visual tokens"), ("mae", "beit", "pixels")])
def test_shadows_that_predict_something_else_than_the_target_are_refused(
    digits: ImageSet, store: Store, target: str, family: str, what: str
) -> None:
    spec = spec_for(digits, Recipe.model_validate({"preset": f"{target}-nano"}))
    recipe = Recipe.model_validate({"preset": f"{family}-nano", "epochs": 1})
    with pytest.raises(MimiaError, match=f"Shadows of the family {family} do not predict {what}, as the target does"):
        pretrained(digits, spec, recipe, 0, context_in(store))
