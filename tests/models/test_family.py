"""A family of another package: one module, and one entry point."""

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mimia.attacks.selection import ThreatModel, select, uses_decoder
from mimia.config.families import FAMILIES
from mimia.config.recipes import Recipe, usual_mask_ratio
from mimia.config.settings import read_settings
from mimia.jobs.audit import audit
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.registry import architecture_for, build, families_of, family_named
from mimia.runtime.errors import MimiaError

SPEC = ModelSpec(image_size=8, channels=1, patch_size=2, mask_ratio=0.5, target_space="normalised", mean=(0,), std=(1,))
MODULE = textwrap.dedent("""
    from typing import Literal

    from torch import nn

    from mimia.models.base import Architecture, MaskedImageModel
    from mimia.models.family import Family
    from mimia.models.patches import patchify


    class PlainArchitecture(Architecture):
        family: Literal["plain"] = "plain"
        width: int


    class Plain(MaskedImageModel):
        has_decoder = True

        def __init__(self, spec, architecture, generator=None):
            super().__init__()
            self.spec, self.architecture = spec, architecture
            values = spec.patch_size**2 * spec.channels
            self.encoder, self.decoder = nn.Linear(values, architecture.width), nn.Linear(architecture.width, values)

        def tokens(self, images, masks):
            patches = patchify(self.spec.normalise(images), self.spec.patch_size)
            return self.encoder(patches).unsqueeze(1)[~masks].view(*masks.shape[:2], self.spec.visible, -1)

        def reconstruct(self, images, masks):
            patches = patchify(self.spec.normalise(images), self.spec.patch_size)
            return self.decoder(self.encoder(patches.unsqueeze(1) * ~masks.unsqueeze(-1)))

        def patch_errors(self, predictions, images):
            patches = patchify(self.spec.normalise(images), self.spec.patch_size)
            return (predictions - patches.unsqueeze(1)).square().mean(-1)


    FAMILY = Family(
        architecture=PlainArchitecture,
        build=Plain,
        architecture_for=lambda recipe, spec, tokenizer: PlainArchitecture(width=8),
        presets={
            "plain-nano": {
                "size": "nano", "patch_size": 2, "mask_ratio": 0.6, "epochs": 3, "batch_size": 4,
                "base_learning_rate": 1e-3,
            }
        },
        masking="random",
        target_space="normalised",
    )
    NO_FAMILY = 3
    """)


@pytest.fixture
def plug_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Install a package with a family."""
    (tmp_path / "plain_family.py").write_text(MODULE)
    (tmp_path / "plain-1.dist-info").mkdir()
    (tmp_path / "plain-1.dist-info" / "METADATA").write_text("Name: plain\nVersion: 1\n")
    (tmp_path / "plain-1.dist-info" / "entry_points.txt").write_text(
        "[mimia.families]\nplain = plain_family:FAMILY\nwrong = plain_family:NO_FAMILY\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = FAMILIES.__dict__.copy()
    FAMILIES.__dict__.pop("_points", None)
    yield
    FAMILIES.__dict__.clear()
    FAMILIES.__dict__.update(before)
    for name in ("plain", "wrong"):
        FAMILIES._loaded.pop(name, None)
    sys.modules.pop("plain_family", None)


@pytest.mark.usefixtures("plug_in")
def test_family_of_another_package_is_built_and_saved_and_loaded(tmp_path: Path) -> None:
    (tmp_path / "plain-1.dist-info" / "entry_points.txt").write_text("[mimia.families]\nplain = plain_family:FAMILY\n")
    recipe = Recipe.model_validate({"preset": "plain-nano", "epochs": 5})
    assert (recipe.family, recipe.epochs, usual_mask_ratio(recipe)) == ("plain", 5, 0.6)
    model = build(SPEC, architecture_for(recipe, SPEC), torch.Generator().manual_seed(0))
    native.save(tmp_path / "saved", model)
    again = native.load(tmp_path / "saved")
    assert (type(again), again.architecture, again.spec) == (type(model), model.architecture, model.spec)
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    masks = SPEC.training_masks(2, torch.Generator().manual_seed(2))
    assert torch.equal(again.distances(images, masks), model.distances(images, masks))
    assert list(families_of("plain")) == ["plain"]
    with pytest.raises(ValueError, match="cell is for simmim and swin, not for plain: leave it out"):
        Recipe.model_validate({"preset": "plain-nano", "cell": 2})


@pytest.mark.usefixtures("plug_in")
def test_family_that_declares_no_decoder_is_refused_one_before_anything_is_trained(tmp_path: Path) -> None:
    (tmp_path / "plain-1.dist-info" / "entry_points.txt").write_text("[mimia.families]\nplain = plain_family:FAMILY\n")
    recipe = Recipe.model_validate({"preset": "plain-nano"})
    native.save(tmp_path / "saved", build(SPEC, architecture_for(recipe, SPEC), torch.Generator().manual_seed(0)))
    settings: dict[str, object] = {
        "target": str(tmp_path / "saved"),
        "store": str(tmp_path / "store"),
        "decoder": {"source": "fitted"},
        "recipe": {"preset": "plain-nano"},
        "data": {"members": "digits", "nonmembers": "digits"},
    }
    with pytest.raises(MimiaError, match=r"the family plain declares none for an encoder: .*leave it out of") as error:
        audit(settings=read_settings(None, settings))
    assert "store" not in str(error.value)
    assert not (tmp_path / "store" / "models").exists()
    threat_model = ThreatModel("encoder", shadows=8, online=8, family="plain", fitting=True)
    attacks, _ = select(("all",), threat_model)
    assert "similarity" in attacks
    assert not any(uses_decoder(attack.requirements) for attack in attacks.values())


@pytest.mark.usefixtures("plug_in")
def test_what_is_registered_but_no_family_is_refused() -> None:
    with pytest.raises(MimiaError, match=r"The model family 'wrong' is no mimia\.models\.family\.Family"):
        family_named("wrong")


def test_family_that_is_not_installed_is_named(tmp_path: Path) -> None:
    model = build(SPEC, architecture_for(Recipe.model_validate({"preset": "mae-nano"}), SPEC))
    assert repr(model) == "<mae with 167,108 parameters for images of 1×8×8 in patches of 2>"
    native.save(tmp_path, build(SPEC, model.architecture, torch.Generator().manual_seed(0)))
    config = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(config.replace('"mae"', '"plain"'))
    with pytest.raises(MimiaError, match="No model family has the architecture 'plain': install the package"):
        native.load(tmp_path)
    with pytest.raises(ValueError, match="there is no model family 'plain': choose one of mae, simmim, swin, beit"):
        Recipe.model_validate({"preset": "mae-nano", "family": "plain"})
