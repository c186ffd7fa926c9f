import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import native
from mimia.models.checkpoints.checkpoint_facts import UNMASKED_ENCODER
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.huggingface import HuggingFaceArchitecture
from mimia.models.patches import unpatchify
from mimia.runtime.errors import MimiaError

VIT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SWIN: dict[str, Any] = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "vit": VIT | {"encoder_stride": 4},
    "deit": VIT | {"encoder_stride": 4},
    "swin": SWIN | {"encoder_stride": 8},
    "swinv2": SWIN | {"encoder_stride": 8},
    "focalnet": {"embed_dim": 16, "depths": [1, 1], "focal_levels": [1, 1], "use_mask_token": True}
    | {"focal_windows": [3, 3], "encoder_stride": 8},
}
GIVEN = CheckpointSettings(cell_size=8)


def make(model_type: str, **changes: Any) -> Any:
    """Make a model of 16 by 16 pixels in patches of 4, no two parameters of which are alike."""
    config = transformers.AutoConfig.for_model(
        model_type, **CONFIGS[model_type] | {"image_size": 16, "patch_size": 4, "drop_path_rate": 0.1} | changes
    )
    makers: Any = transformers.AutoModelForMaskedImageModeling
    model = makers.from_config(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.1 * torch.randn(value.shape, generator=generator))
    return model.train(False)


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_directory_reconstructs_what_transformers_reconstructs(tmp_path: Path, model_type: str) -> None:
    reference = make(model_type)
    reference.save_pretrained(tmp_path / "theirs")
    opened = load_checkpoint(tmp_path / "theirs", GIVEN)
    model, spec = opened.model, opened.model.spec
    assert (opened.layout, opened.access) == (f"transformers {type(reference).__name__}", "decoder")
    assert (spec.masking, spec.cell, spec.grid, spec.target_space) == ("cell", 2, (4, 4), "normalised")
    assert set(opened.assumed) == {
        "mask ratio is the paper's 0.6, which the file does not say",
        "pixel statistics are ImageNet's, which the file does not say",
    }
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (3, 3, 16, 16), dtype=torch.uint8, generator=generator)
    masks = spec.training_masks(3, generator)
    with torch.no_grad():  # transformers keeps tensors of a call for others, which may train
        pictures = reference(spec.normalise(images), bool_masked_pos=masks[:, 0]).reconstruction
        torch.testing.assert_close(model.pictures(images, masks)[:, 0], spec.denormalise(pictures))


@pytest.mark.parametrize("model_type", list(CONFIGS))
def test_no_weight_and_no_setting_changes_on_the_way_to_mimias_own_directory(tmp_path: Path, model_type: str) -> None:
    make(model_type).save_pretrained(tmp_path / "theirs")
    opened = load_checkpoint(tmp_path / "theirs", GIVEN)
    native.save(tmp_path / "ours", opened.model)
    again = load_checkpoint(tmp_path / "ours")
    assert (again.model.spec, again.model.architecture) == (opened.model.spec, opened.model.architecture)
    weights = again.model.state_dict()
    assert all(torch.equal(weights[name], value) for name, value in opened.model.state_dict().items())


def test_architecture_holds_what_shapes_the_model_and_nothing_else(tmp_path: Path) -> None:
    make("swin").save_pretrained(tmp_path / "theirs")
    architecture = load_checkpoint(tmp_path / "theirs", GIVEN).model.architecture
    assert isinstance(architecture, HuggingFaceArchitecture)
    assert architecture.config.items() >= CONFIGS["swin"].items()
    assert not architecture.config.keys() & {"architectures", "transformers_version", "dtype", "id2label", "image_size"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder_stride": 4}, r"encoder_stride = 4, but its last tokens have a side of 8 pixels"),
        ({"depths": [2, 3]}, r"lacks parameter swin\.encoder\.layers\.1\.blocks\.2\..* it is not whole"),
        ({"image_size": [16, 32]}, r"only square images and patches work"),
        (
            {"architectures": ["SwinForImageClassification"]},
            r"which is no masked-image model that is known: supervised",
        ),
        ({"architectures": ["SwinV9ForMaskedImageModeling"]}, r"SwinV9.*, which this transformers lacks"),
        (
            {"architectures": ["Swin"], "model_type": "swin"},
            r"which is no masked-image model that is known: supervised",
        ),
    ],
)
def test_directory_that_contradicts_itself_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    make("swin").save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(tmp_path / "theirs", GIVEN)


def test_cells_that_are_not_whole_patches_are_asked_for(tmp_path: Path) -> None:
    make("swin").save_pretrained(tmp_path / "theirs")
    with pytest.raises(MimiaError, match=r"patches of 4 pixels, of which cells of 6 cannot be made: .*cell_size=N"):
        load_checkpoint(tmp_path / "theirs", CheckpointSettings(cell_size=6))


def test_supervised_swin_that_calls_itself_a_masked_image_model_is_refused(tmp_path: Path) -> None:
    config = transformers.SwinConfig(**CONFIGS["swin"], image_size=16, patch_size=4)
    transformers.SwinForImageClassification(config).save_pretrained(tmp_path / "supervised")
    path = tmp_path / "supervised" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["SwinForMaskedImageModeling"]}))
    with pytest.raises(
        MimiaError, match=r"lacks parameter decoder\.0\.bias, .* at random: it seems to hold an encoder"
    ):
        load_checkpoint(tmp_path / "supervised", GIVEN)


def test_deit_of_transformers_4_reconstructs_what_it_did_there(tmp_path: Path) -> None:
    """Golden arrays of transformers 4.57.6; today's transformers predicts another picture of the same file."""
    source = Path(__file__).parent / "deit_of_transformers_4"
    golden = load_file(source / "golden.safetensors")
    given = CheckpointSettings(mean=(0, 0, 0), std=(1, 1, 1), cell_size=4)
    opened = load_checkpoint(source, given)
    patches = opened.model.reconstruct(golden["pixels"], golden["masks"][:, None])
    torch.testing.assert_close(unpatchify(patches[0], 4, (2, 2)), golden["picture"], atol=1e-5, rtol=1e-5)
    native.save(tmp_path / "own", opened.model)
    again = native.load(tmp_path / "own").reconstruct(golden["pixels"], golden["masks"][:, None])
    assert torch.equal(again, patches)
    config = json.loads((source / "config.json").read_text())
    del config["transformers_version"]
    shutil.copytree(source, tmp_path / "theirs")
    (tmp_path / "theirs" / "config.json").write_text(json.dumps(config))
    assert any("no transformers_version" in each for each in load_checkpoint(tmp_path / "theirs", given).assumed)


@pytest.fixture(
    params=[
        {"use_shared_relative_position_bias": True},
        {"use_shared_relative_position_bias": True, "use_mean_pooling": False},
        {"use_absolute_position_embeddings": True, "use_mean_pooling": False},
        {"use_relative_position_bias": True, "use_absolute_position_embeddings": True},
    ],
    ids=["shared", "shared, class token", "absolute, class token", "both positions"],
)
def beit(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """A BEiT; without mean pooling, transformers 5 swaps two layer norms when it loads one."""
    config = transformers.BeitConfig(
        **VIT, image_size=16, patch_size=4, vocab_size=64, use_mask_token=True, **request.param
    )
    model = transformers.BeitForMaskedImageModeling(config)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.1)
    model.save_pretrained(tmp_path / "beit")
    return model.train(False)


def save_codebook(directory: Path, vocabulary: int) -> transformers.FlavaImageCodebook:
    config = transformers.FlavaImageCodebookConfig(hidden_size=16, num_groups=4, vocab_size=vocabulary)
    model = transformers.FlavaImageCodebook(config)
    model.save_pretrained(directory)
    return model


def test_beit_without_its_tokenizer_is_an_encoder_alone_and_says_why(tmp_path: Path, beit: Any) -> None:
    opened = load_checkpoint(tmp_path / "beit")
    assert opened.access == "encoder"
    assert any("checkpoint.tokenizer=facebook/flava-image-codebook" in text for text in opened.assumed)
    model, spec = opened.model, opened.model.spec
    assert (spec.masking, round(spec.mask_ratio * 196), spec.target_space) == ("blockwise", 75, "tokens")
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 1, 16, dtype=torch.bool)
    masks[:, :, 5:8] = True
    with torch.no_grad():  # transformers keeps tensors of a call for others, which may train
        theirs = beit.beit(spec.normalise(images), bool_masked_pos=masks[:, 0]).last_hidden_state[:, 1:]
        torch.testing.assert_close(model.tokens(images, masks)[:, 0], theirs[~masks[:, 0]].view(2, 13, -1))


def test_beit_with_its_tokenizer_predicts_its_tokens(tmp_path: Path, beit: Any) -> None:
    codebook = save_codebook(tmp_path / "codebook", 64)
    opened = load_checkpoint(tmp_path / "beit", CheckpointSettings(tokenizer=str(tmp_path / "codebook")))
    assert opened.access == "decoder"
    assert opened.id != load_checkpoint(tmp_path / "beit").id
    state = opened.model.state_dict()
    assert all(torch.equal(state[f"tokenizer.codebook.{name}"], value) for name, value in codebook.state_dict().items())
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    masks = opened.model.spec.training_masks(2, torch.Generator().manual_seed(2))
    with torch.no_grad():  # transformers keeps tensors of a call for others, which may train
        theirs = beit(opened.model.spec.normalise(images), bool_masked_pos=masks[:, 0]).logits
        torch.testing.assert_close(opened.model.reconstruct(images, masks)[:, 0], theirs)
        assert opened.model.distances(images, masks).isfinite().all()


@pytest.mark.usefixtures("beit")
def test_tokenizer_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    save_codebook(tmp_path / "codebook", 32)
    for directory in ("codebook", "beit"):
        with pytest.raises(
            MimiaError, match=r"is no tokenizer( of 64 tokens|: pass a directory of FlavaImageCodebook)"
        ):
            load_checkpoint(tmp_path / "beit", CheckpointSettings(tokenizer=str(tmp_path / directory)))


@pytest.mark.parametrize("mask_token", [True, False])
@pytest.mark.parametrize("name", ["BeitModel", "BeitModel without pooler", "BeitForImageClassification", "SwinModel"])
def test_encoder_alone_encodes_as_transformers_does(tmp_path: Path, name: str, mask_token: bool) -> None:
    kind: Any = getattr(transformers, name.split()[0])
    if name == "SwinModel":
        config: Any = transformers.SwinConfig(**SWIN, image_size=16, patch_size=4)
        reference = kind(config, use_mask_token=mask_token)
    else:
        config = transformers.BeitConfig(
            **VIT, image_size=16, patch_size=4, use_mask_token=mask_token, use_shared_relative_position_bias=True
        )
        reference = kind(config, add_pooling_layer=False) if "without" in name else kind(config)
    for value in reference.parameters():
        torch.nn.init.normal_(value, std=0.1)
    reference.train(False).save_pretrained(tmp_path / "theirs")
    opened = load_checkpoint(tmp_path / "theirs", GIVEN)
    assert (opened.access, opened.layout) == ("encoder", f"transformers {name.split()[0]}")
    assert (UNMASKED_ENCODER in opened.assumed) != mask_token
    assert any("classification head is left out" in text for text in opened.assumed) == ("Classification" in name)
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    masks = torch.zeros(2, 1, 16, dtype=torch.bool)
    masks[:, :, 5:8] = mask_token
    model: Any = opened.model
    with torch.no_grad():
        hidden = {"bool_masked_pos": masks[:, 0]} if mask_token else {}
        theirs = reference.base_model(model.spec.normalise(images), **hidden).last_hidden_state
        torch.testing.assert_close(model.encode(images, masks)[:, 0], theirs if name == "SwinModel" else theirs[:, 1:])


def test_tokenizer_of_an_encoder_alone_is_refused(tmp_path: Path, beit: Any) -> None:
    beit.beit.save_pretrained(tmp_path / "encoder")
    with pytest.raises(MimiaError, match=r"an encoder alone, which predicts no tokens: leave out"):
        load_checkpoint(tmp_path / "encoder", CheckpointSettings(tokenizer="somewhere"))
