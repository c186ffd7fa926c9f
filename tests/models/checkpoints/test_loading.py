import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

from mimia.config.settings import CheckpointSettings
from mimia.models.base import ModelSpec
from mimia.models.checkpoints import native
from mimia.models.checkpoints.loading import load_checkpoint, load_model
from mimia.models.mae import MAE, SIZES
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Make = Callable[..., State]
SMALL = CheckpointSettings(heads=3, decoder_heads=4, target_space="normalised")
SPEC = ModelSpec(
    image_size=8, channels=1, patch_size=2, mask_ratio=0.75, target_space="normalised", mean=(0.3,), std=(0.4,)
)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    native.save(tmp_path / "ours", MAE(SPEC, SIZES["nano"], torch.Generator().manual_seed(0)))
    return tmp_path / "ours"


def test_mimias_own_directory_opens_as_it_is(ours: Path) -> None:
    for source in (ours, str(ours)):
        opened = load_checkpoint(source)
        assert (opened.layout, opened.access, opened.assumed) == ("mimia's own", "decoder", ())
        assert opened.model.spec == SPEC
        assert opened.id == native.model_id(ours)
        assert not opened.model.training


def test_mimias_own_directory_does_not_heed_settings_and_says_so(ours: Path) -> None:
    opened = load_checkpoint(ours, CheckpointSettings(mask_ratio=0.5))
    assert opened.model.spec == SPEC
    assert opened.notes == ("it says all of itself: the settings of [checkpoint] are not used",)


def test_home_directory_is_understood(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(ours.parent))
    assert load_checkpoint("~/ours").model.spec == SPEC


def test_id_is_the_hash_of_the_file(tmp_path: Path, mae_state: Make) -> None:
    torch.save(mae_state(), tmp_path / "mae.pth")
    opened = load_checkpoint(tmp_path / "mae.pth", SMALL)
    assert opened.id == hashlib.sha256((tmp_path / "mae.pth").read_bytes()).hexdigest()


def test_equal_weights_in_files_of_torch_and_safetensors_make_equal_models(tmp_path: Path, mae_state: Make) -> None:
    state = mae_state()
    torch.save(state, tmp_path / "a.pth")
    torch.save(state, tmp_path / "b.pt", _use_new_zipfile_serialization=False)
    torch.save({"state_dict": state}, tmp_path / "c.bin")
    save_file(state, tmp_path / "d.safetensors")
    for file in ("a.pth", "b.pt", "c.bin", "d.safetensors"):
        opened = load_checkpoint(tmp_path / file, SMALL)
        assert opened.layout == "official MAE with decoder"
        assert all(torch.equal(value, state[name]) for name, value in opened.model.state_dict().items())


def save_timm(directory: Path, state: State, **config: Any) -> Path:
    directory.mkdir()
    save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    content = {
        "architecture": "vit_base_patch16_224",
        "num_classes": 0,
        "pretrained_cfg": {"tag": "mae", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.25, 0.3]},
    }
    (directory / "config.json").write_text(json.dumps(content | config))
    return directory


def test_directory_of_timm_opens_as_an_encoder_with_its_pixel_statistics(tmp_path: Path, mae_state: Make) -> None:
    opened = load_checkpoint(save_timm(tmp_path / "timm", mae_state(decoder_width=0)), CheckpointSettings(heads=3))
    assert (opened.layout, opened.access) == ("timm vit_base_patch16_224, MAE without decoder", "encoder")
    assert (opened.model.spec.mean, opened.model.spec.std) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert not any("it is taken as an MAE" in sentence for sentence in opened.assumed)  # its tag says so


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"pretrained_cfg": {"tag": "dino"}}, "is tagged 'dino'"),
        ({"pretrained_cfg": {"tag": "augreg_in21k"}}, "is tagged 'augreg_in21k'"),
        ({"pretrained_cfg": {}}, "does not say how it was trained"),
    ],
)
def test_model_of_timm_that_was_trained_otherwise_is_refused(
    tmp_path: Path, mae_state: Make, config: dict[str, Any], message: str
) -> None:
    with pytest.raises(MimiaError, match=f"{message}.* masked image modeling: .*--embeddings"):
        load_checkpoint(save_timm(tmp_path / "timm", mae_state(decoder_width=0), **config))


def test_supervised_model_of_timm_is_refused(tmp_path: Path, mae_state: Make) -> None:
    state = mae_state(decoder_width=0) | {"head.weight": torch.ones(10, 48), "head.bias": torch.ones(10)}
    with pytest.raises(MimiaError, match=r"has a classification head \(head\.(weight|bias)\): it is a supervised"):
        load_checkpoint(save_timm(tmp_path / "timm", state), CheckpointSettings(heads=3))


def test_other_models_of_timm_are_refused(tmp_path: Path) -> None:
    state = {"stem.conv.weight": torch.ones(8, 3, 3, 3)}
    with pytest.raises(MimiaError, match=r"lacks parameter patch_embed\.proj\.weight"):
        load_checkpoint(save_timm(tmp_path / "timm", state, architecture="resnet50"))


def empty(path: Path) -> None:
    path.mkdir()


def with_config(content: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.mkdir()
        (path / "config.json").write_text(content)

    return write


def file_of(state: State) -> Callable[[Path], None]:
    return lambda path: torch.save(state, path)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (empty, r"is no checkpoint: it has no config\.json\. Pass a directory that `mimia pretrain`"),
        (with_config("[1]"), r"config\.json holds no JSON object"),
        (with_config("{"), r"config\.json cannot be read as JSON"),
        (with_config("{}"), r"config\.json is of neither mimia nor transformers nor timm"),
        (with_config('{"format": "mimia"}'), r"has no model\.safetensors"),
        (with_config('{"model_type": "vit_mae"}'), r"has no weights: model\.safetensors or pytorch_model\.bin"),
        (with_config('{"architecture": "vit"}'), r"has no weights: model\.safetensors or pytorch_model\.bin"),
        (file_of({"conv1.weight": torch.ones(3)}), r"of no known layout \(its first names are conv1\.weight\)"),
        (
            file_of({"vit.embeddings.position_embeddings": torch.ones(3)}),
            r"holds weights of transformers, which need their config\.json: pass their directory",
        ),
        (
            file_of({"embeddings.patch_embeddings.projection.weight": torch.ones(3)}),
            r"holds weights of transformers, which need their config\.json",
        ),
    ],
)
def test_what_is_no_checkpoint_is_refused_with_what_to_pass_instead(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write(tmp_path / "target")
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(tmp_path / "target")


@pytest.mark.parametrize("source", ["nothing", "/nowhere/mae", "runs/mae.pth", "deep/er/mae", "mae_visualize.pth"])
def test_what_is_not_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MimiaError, match=rf"There is no checkpoint at {source}: pass a directory .* facebook/vit-mae"):
        load_checkpoint(source)


def test_opened_model_can_be_trained_without_a_change_of_its_file(tmp_path: Path, mae_state: Make) -> None:
    torch.save(mae_state(), tmp_path / "mae.pth")
    opened = load_checkpoint(tmp_path / "mae.pth", SMALL)
    before = opened.id
    images = torch.randint(256, (2, 3, 12, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    optimiser = torch.optim.SGD((value for value in opened.model.parameters() if value.requires_grad), lr=0.1)
    masks = opened.model.spec.training_masks(2, torch.Generator().manual_seed(2))
    first = opened.model.loss(images, masks)
    torch.autograd.backward([first])
    optimiser.step()
    assert opened.model.loss(images, masks) < first
    assert load_checkpoint(tmp_path / "mae.pth", SMALL).id == before


def test_model_in_memory_is_checked_and_copied_as_a_checkpoint(ours: Path) -> None:
    model = native.load(ours).train()
    opened = load_checkpoint(model)
    assert (opened.id, opened.own, opened.model.training) == (native.model_id(ours), None, False)
    assert all(torch.equal(value, opened.model.state_dict()[name]) for name, value in model.state_dict().items())
    assert load_model(model) is model
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(MimiaError, match="holds numbers that are not finite"):
        load_checkpoint(model)


@pytest.mark.parametrize("kind", ["ViTMAE", "ViT", "Swin", "Beit"])
def test_model_of_transformers_in_memory_is_loaded_as_from_its_directory(tmp_path: Path, kind: str) -> None:
    sizes: dict[str, Any] = {"image_size": 16, "patch_size": 4, "hidden_size": 24, "intermediate_size": 96}
    sizes |= {"num_hidden_layers": 1, "num_attention_heads": 2, "encoder_stride": 4}
    if kind == "ViTMAE":
        sizes |= {"decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
        sizes |= {"decoder_intermediate_size": 64}
    if kind == "Swin":
        sizes = {
            "image_size": 16,
            "patch_size": 4,
            "embed_dim": 12,
            "depths": [1, 1],
            "num_heads": [2, 2],
            "window_size": 2,
            "encoder_stride": 8,
        }
    if kind == "Beit":
        sizes |= {"use_mask_token": True}
    config = getattr(transformers, f"{kind}Config")(**sizes)
    suffix = "ForPreTraining" if kind == "ViTMAE" else "ForMaskedImageModeling"
    theirs = getattr(transformers, f"{kind}{suffix}")(config)
    given = CheckpointSettings(cell_size=8)
    opened = load_checkpoint(theirs, given)
    theirs.save_pretrained(tmp_path / "saved")
    saved = load_checkpoint(tmp_path / "saved", given)
    assert (opened.id, opened.layout, opened.assumed) == (saved.id, saved.layout, saved.assumed)
    assert opened.model.architecture == saved.model.architecture
    expected = saved.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in opened.model.state_dict().items())


def test_other_objects_are_refused() -> None:
    for target in (torch.nn.Linear(2, 2), 3, None):
        with pytest.raises(MimiaError, match=rf"A {type(target).__name__} is no masked-image model: pass a path"):
            load_model(target)
