import json
from collections.abc import Callable
from logging import Handler, LogRecord
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTMAEConfig,
    ViTMAEForPreTraining,
    ViTMAEModel,
    ViTModel,
    logging,
)

from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints import native
from mimia.models.checkpoints.export import export
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.mae import MAEArchitecture
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Make = Callable[..., State]
Save = Callable[..., Path]


@pytest.mark.parametrize("eps", [1e-12, 1e-6, 1e-3])
@pytest.mark.parametrize("normalised", [True, False])
def test_directory_of_the_hub_predicts_what_transformers_predicts(
    tmp_path: Path, mae_state: Make, save_transformers: Save, normalised: bool, eps: float
) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state(), norm_pix_loss=normalised, layer_norm_eps=eps)
    statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.25, 0.3], "do_normalize": True}
    (directory / "preprocessor_config.json").write_text(json.dumps(statistics))
    opened = load_checkpoint(directory)
    model, spec = opened.model, opened.model.spec
    assert (opened.layout, opened.access) == ("transformers ViTMAEForPreTraining (with decoder)", "decoder")
    assert model.architecture == MAEArchitecture(
        width=48, depth=2, heads=3, decoder_width=32, decoder_depth=1, decoder_heads=4, norm_eps=eps
    )
    assert (spec.mean, spec.std, spec.mask_ratio) == ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), 0.75)
    assert [text for text in opened.assumed if "layer normalisation adds" not in text] == []
    assert len(opened.assumed) == (eps != 1e-6)
    reference = ViTMAEForPreTraining.from_pretrained(directory)
    assert isinstance(reference, ViTMAEForPreTraining)
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 12, 12), dtype=torch.uint8, generator=generator)
    images[0] = 77  # almost no variance, where eps shows
    masks = spec.training_masks(2, generator)
    with torch.inference_mode():
        theirs = reference(spec.normalise(images), noise=masks[:, 0].float())
        torch.testing.assert_close(model.reconstruct(images, masks)[:, 0], theirs.logits, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(model.distances(images, masks).mean(), theirs.loss, rtol=1e-5, atol=1e-5)


def test_no_weight_changes_on_the_way_from_the_hub_to_mimia_to_transformers_and_back(
    tmp_path: Path, mae_state: Make, save_transformers: Save
) -> None:
    state = mae_state(channels=1)
    directory = save_transformers(tmp_path / "hub", state, layer_norm_eps=1e-12, norm_pix_loss=True)
    opened = load_checkpoint(directory, CheckpointSettings(mean=(0.3,), std=(0.37,), mask_ratio=0.6))
    native.save(tmp_path / "mimia", opened.model)
    export(tmp_path / "mimia", tmp_path / "exported")
    again = load_checkpoint(tmp_path / "exported")
    assert (again.model.spec, again.model.architecture) == (opened.model.spec, opened.model.architecture)
    weights = again.model.state_dict()
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_encoder_alone_opens_and_encodes_as_transformers_does(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 3}
    config = ViTMAEConfig(**sizes, intermediate_size=192, image_size=12, patch_size=4, layer_norm_eps=1e-6)
    reference = ViTMAEModel(config)  # without dropout, so that training mode is no other
    for value in reference.parameters():
        torch.nn.init.normal_(value, std=0.1)
    reference.save_pretrained(tmp_path / "encoder")
    opened = load_checkpoint(tmp_path / "encoder")
    assert (opened.layout, opened.access) == ("transformers ViTMAEModel (without decoder)", "encoder")
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, 3, 12, 12), dtype=torch.uint8, generator=generator)
    masks = opened.model.spec.training_masks(2, generator)
    noise = masks[:, 0] + torch.arange(9) / 18  # transformers keeps the patches of the lowest noise, in their order
    with torch.inference_mode():
        theirs = reference(opened.model.spec.normalise(images), noise=noise).last_hidden_state[:, 1:]
        torch.testing.assert_close(opened.model.tokens(images, masks)[:, 0], theirs, rtol=1e-5, atol=1e-5)


def test_pickled_weights_of_an_old_transformers_open(tmp_path: Path, mae_state: Make, save_transformers: Save) -> None:
    state = mae_state()
    directory = save_transformers(tmp_path / "hub", state)
    torch.save(load_file(directory / "model.safetensors"), directory / "pytorch_model.bin")
    (directory / "model.safetensors").unlink()
    weights = load_checkpoint(directory).model.state_dict()
    assert all(torch.equal(weights[name], state[name]) for name in state)


def test_weights_in_several_files_open_and_all_of_them_make_the_id(
    tmp_path: Path, mae_state: Make, save_transformers: Save
) -> None:
    state = mae_state()
    whole = ViTMAEForPreTraining.from_pretrained(save_transformers(tmp_path / "whole", state))
    assert isinstance(whole, ViTMAEForPreTraining)
    whole.save_pretrained(tmp_path / "parts", max_shard_size="100kB")
    opened = load_checkpoint(tmp_path / "parts")
    files = sorted((tmp_path / "parts").glob("model-*.safetensors"))
    assert len(files) > 1
    assert all(torch.equal(value, state[name]) for name, value in opened.model.state_dict().items())
    before = opened.id
    last = load_file(files[-1])
    save_file({name: value + 1 for name, value in last.items()}, files[-1], metadata={"format": "pt"})
    assert load_checkpoint(tmp_path / "parts").id != before


def test_transformers_is_silent_while_it_loads_and_speaks_as_before(
    tmp_path: Path, mae_state: Make, save_transformers: Save, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    class Listener(Handler):
        def emit(self, record: LogRecord) -> None:
            said.append(record.getMessage())

    listener, level = Listener(), logging.get_verbosity()
    logging.add_handler(listener)
    directory = save_transformers(tmp_path / "hub", mae_state(decoder_width=0))
    with pytest.raises(MimiaError):
        load_checkpoint(directory)
    assert said == []
    assert capfd.readouterr() == ("", "")
    assert logging.get_verbosity() == level
    ViTMAEForPreTraining.from_pretrained(directory)
    logging.remove_handler(listener)
    assert "MISSING" in "".join(said)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))),
        ({"do_normalize": False, "image_mean": [0.1, 0.2, 0.3]}, ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))),
        ({"do_rescale": True, "rescale_factor": 0.00392156862745098, "image_mean": None}, None),
        (None, None),
    ],
)
def test_pixel_statistics_are_those_of_the_preprocessing_if_it_says_them(
    tmp_path: Path, mae_state: Make, save_transformers: Save, settings: Any, expected: Any
) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state())
    if settings is not None:
        (directory / "preprocessor_config.json").write_text(json.dumps(settings))
    opened = load_checkpoint(directory)
    assumed = "pixel statistics are ImageNet's, which the file does not say" in opened.assumed
    assert assumed == (expected is None)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (opened.model.spec.mean, opened.model.spec.std) == (expected or imagenet)


def test_pixels_that_are_scaled_otherwise_are_refused(tmp_path: Path, mae_state: Make, save_transformers: Save) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state())
    for settings in ({"do_rescale": False}, {"rescale_factor": 1 / 127.5}):
        (directory / "preprocessor_config.json").write_text(json.dumps(settings))
        with pytest.raises(MimiaError, match=r"preprocessor_config\.json scales pixels otherwise"):
            load_checkpoint(directory)


def test_target_space_that_config_json_leaves_out_is_transformers_default(
    tmp_path: Path, mae_state: Make, save_transformers: Save
) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state())
    config = json.loads((directory / "config.json").read_text())
    del config["norm_pix_loss"]
    (directory / "config.json").write_text(json.dumps(config))
    opened = load_checkpoint(directory)
    assert opened.model.spec.target_space == "normalised"
    assert "target space is pixels as they are, transformers' default" in opened.assumed


def change(name: str, value: Tensor | None) -> Callable[[State], State]:
    """Replace a weight, add one, or leave one out."""

    def apply(state: State) -> State:
        kept = {key: tensor for key, tensor in state.items() if key != name}
        return kept if value is None else kept | {name: value}

    return apply


@pytest.mark.parametrize(
    ("damage", "config", "message"),
    [
        (change("decoder_norm.bias", None), {}, r"lacks parameter decoder\.decoder_norm\.bias, .* an encoder alone"),
        (change("blocks.1.norm2.bias", None), {}, r"lacks parameter vit\.layers\.1\..*bias, .* it is not whole"),
        (change("classifier.bias", torch.ones(10)), {}, r"unexpected parameter classifier\.bias, .* supervised"),
        (change("pos_embed", torch.ones(1, 5, 48)), {}, r"pos_embed has the shape \(1, 10, 32\), but config"),
        (change("decoder_pred.bias", torch.full((48,), torch.nan)), {}, r"decoder_pred\.bias holds numbers that are"),
        (dict, {"patch_size": 2}, r"has the shape \(1, 10, .*\), but config\.json asks for \(1, 37, "),
        (dict, {"decoder_hidden_size": 40, "decoder_intermediate_size": 160}, r"shape .*32.*, but config.json .*40"),
        (dict, {"num_hidden_layers": 3}, r"lacks parameter vit\.layers\.2\."),
        (dict, {"image_size": [12, 24]}, r"image_size = \[12, 24\]: only square images"),
        (dict, {"hidden_act": "relu"}, r"hidden_act = relu, and only gelu works"),
        (dict, {"qkv_bias": False}, r"qkv_bias = False, and only True works"),
        (dict, {"intermediate_size": 100}, r"intermediate_size = 100, and only 192 works"),
        (dict, {"decoder_intermediate_size": 100}, r"decoder_intermediate_size = 100, and only 128 works"),
        (dict, {"hidden_size": "wide"}, r"config\.json cannot be used: hidden_size is 'wide'"),
        (dict, {"architectures": ["ViTMAEForSegmentation"]}, r"holds a ViTMAEForSegmentation: pass a ViTMAEForPre"),
        (dict, {"architectures": ["ViTMAEModel"]}, r"unexpected parameter decoder\."),
    ],
)
def test_directory_that_is_not_what_it_says_is_refused_with_the_name_of_what_is_wrong(
    tmp_path: Path,
    mae_state: Make,
    save_transformers: Save,
    damage: Callable[[State], State],
    config: dict[str, Any],
    message: str,
) -> None:
    directory = save_transformers(tmp_path / "hub", damage(mae_state()), **config)
    with pytest.raises(MimiaError, match=message):
        load_checkpoint(directory)


def test_missing_decoder_is_answered_with_the_files_that_have_one(
    tmp_path: Path, mae_state: Make, save_transformers: Save
) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state(decoder_width=0))
    with pytest.raises(
        MimiaError, match=r"an encoder alone \(mae_pretrain_\* .* mae_pretrain_\*_full and mae_visualize"
    ):
        load_checkpoint(directory)


@pytest.mark.parametrize("kind", [ViTForImageClassification, ViTModel])
def test_supervised_model_is_refused(tmp_path: Path, kind: Any) -> None:
    kind(
        ViTConfig(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4)
    ).save_pretrained(tmp_path / "supervised")
    with pytest.raises(MimiaError, match=rf"holds a {kind.__name__}, which is no masked-image model .* supervised"):
        load_checkpoint(tmp_path / "supervised")


def test_damaged_weights_are_refused(tmp_path: Path, mae_state: Make, save_transformers: Save) -> None:
    directory = save_transformers(tmp_path / "hub", mae_state())
    weights = directory / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(MimiaError, match=r"model\.safetensors is damaged or no file of safetensors"):
        load_checkpoint(directory)
    weights.unlink()
    with pytest.raises(MimiaError, match=r"has no weights: model\.safetensors or pytorch_model\.bin is missing"):
        load_checkpoint(directory)
