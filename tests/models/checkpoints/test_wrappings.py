"""What trainers wrap around weights: a file opens as the weights alone do, or is refused with the cause."""

import argparse
import pathlib
import re
import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from typer.testing import CliRunner

from mimia.cli.app import app
from mimia.config.settings import CheckpointSettings
from mimia.models.base import MaskedImageModel
from mimia.models.checkpoints.loading import load_checkpoint
from mimia.models.checkpoints.weight_choice import choose
from mimia.models.checkpoints.wrappings import find
from mimia.runtime.errors import MimiaError

State = dict[str, Tensor]
Wrap = Callable[[State], Any]
KINDS = ("MAE", "MAE encoder", "SimMIM", "SimMIM Swin", "mmpretrain MAE", "mmpretrain SimMIM")
OFFICIAL_MAE = {"heads": 3, "decoder_heads": 4, "target_space": "normalised"}
GIVEN = {
    "SimMIM": CheckpointSettings(cell_size=8),
    "SimMIM Swin": CheckpointSettings(image_size=16, cell_size=8),
    "mmpretrain SimMIM": CheckpointSettings(image_size=16, cell_size=8),
}


def loaded(path: Path, kind: str, weights: str | None = None) -> Any:
    given = GIVEN.get(kind, CheckpointSettings.model_validate(OFFICIAL_MAE))
    return load_checkpoint(path, given.model_copy(update={"weights": weights}))


def outputs(model: MaskedImageModel) -> Tensor:
    """What a model makes of two images, under the same masks for all models of a size."""
    masks = model.spec.training_masks(2, torch.Generator().manual_seed(1))
    images = torch.randint(256, (2, *model.spec.shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        return model.reconstruct(images, masks) if model.has_decoder else model.tokens(images, masks)


_PLAIN: dict[str, tuple[State, Any]] = {}  # what was opened last of each kind, as many tests open the same


def opened_plainly(directory: Path, kind: str, state: State) -> Any:
    """Open a file with weights alone."""
    if kind not in _PLAIN or _PLAIN[kind][0] is not state:
        torch.save(state, directory / "plain.pth")
        _PLAIN[kind] = (state, loaded(directory / "plain.pth", kind))
    return _PLAIN[kind][1]


def check_same(path: Path, kind: str, state: State, weights: str | None = None) -> Any:
    """Check that a file opens as one with the weights alone, and return what it opened as."""
    expected = opened_plainly(path.parent, kind, state)
    found = loaded(path, kind, weights)
    assert found.layout == expected.layout
    assert found.model.spec == expected.model.spec
    assert torch.allclose(outputs(found.model), outputs(expected.model), atol=1e-5)
    wanted = expected.model.state_dict()
    assert all(torch.equal(value, wanted[name]) for name, value in found.model.state_dict().items())
    return found


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


class Tree(nn.Module):
    """A module with weights of the given names."""

    def __init__(self, state: State) -> None:
        super().__init__()
        inner: dict[str, State] = defaultdict(dict)
        for name, value in state.items():
            first, dot, rest = name.partition(".")
            if dot:
                inner[first][rest] = value
            else:
                self.register_buffer(name, value)
        for name, part in inner.items():
            self.add_module(name, Tree(part))


def around_blocks(state: State) -> State:
    """Put a wrapper around each block, as FSDP, checkpointing of activations and torch.compile by blocks do."""
    return {
        re.sub(r"((?:blocks|layers)\.\d+\.)", r"\1_fsdp_wrapped_module._orig_mod.", name): v
        for name, v in state.items()
    }


def compiled(state: State) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch, on itself
        return cast("nn.Module", torch.compile(Tree(state))).state_dict()


def adam(state: State) -> dict[str, Any]:
    optimiser = torch.optim.AdamW(
        [nn.Parameter(value.clone()) for value in state.values() if value.is_floating_point()]
    )
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    return optimiser.state_dict()


def lightning(prefix: str, beside: State) -> Wrap:
    return lambda state: {
        "epoch": 3,
        "global_step": 9,
        "pytorch-lightning_version": "2.1.0",
        "state_dict": OrderedDict(prefixed(prefix, state) | beside),
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3}}}},
        "callbacks": {
            "ModelCheckpoint{'monitor': None}": {"best_model_path": "", "best_model_score": torch.tensor(0.3)}
        },
        "optimizer_states": [adam(state)],
        "lr_schedulers": [{"last_epoch": 3, "_last_lr": [1e-4]}],
        "hparams_name": "kwargs",
        "hyper_parameters": {"lr": 1e-4, "betas": (0.9, 0.95)},
    }


def training(state: State) -> dict[str, Any]:
    """What a training saves to go on: options, states of the optimiser and of the random numbers, curves."""
    return {
        "model": state,
        "optimizer": adam(state),
        "epoch": 3,
        "scaler": {"scale": 65536.0, "growth_tracker": 7},
        "args": argparse.Namespace(lr=1e-4, output_dir=pathlib.PosixPath("runs/1"), device=torch.device("cuda:0")),
        "rng": {"torch": torch.get_rng_state(), "numpy": np.random.RandomState(0).get_state(), "dtype": torch.bfloat16},
        "best": np.float64(0.25),
        "curves": defaultdict(list, {"loss": [np.float32(0.5)]}),
        "torch_version": torch.__version__,
    }


def deepspeed(state: State) -> dict[str, Any]:
    return {
        "module": state,
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": [OrderedDict((name, value.shape) for name, value in state.items())],
        "shared_params": {},
        "sparse_tensor_module_names": set(),
        "ds_config": {"zero_optimization": {"stage": 2}},
        "ds_version": "0.15.0",
    }


WRAPPINGS: dict[str, Wrap] = {
    "nothing": lambda state: state,
    "an ordered dictionary with metadata": lambda state: Tree(state).state_dict(),
    "data parallelism": lambda state: {"state_dict": nn.DataParallel(Tree(state)).state_dict()},
    "torch.compile": compiled,
    "compiled twice": lambda state: {"model": prefixed("_orig_mod._orig_mod.", state)},
    "compiled around parallel": lambda state: {"model": prefixed("_orig_mod.module.", state)},
    "FSDP around and within": lambda state: {"model": prefixed("_fsdp_wrapped_module.", around_blocks(state))},
    "wrapped blocks": lambda state: {"model": around_blocks(state)},
    "Lightning": lightning("model.", {}),
    "Lightning, another attribute": lightning("my_mae.", {}),
    "Lightning, deep": lightning("trainer.net.module._orig_mod.backbone.", {}),
    "a training": training,
    "DeepSpeed": deepspeed,
    "encoder and backbone": lambda state: {"state": {"net": prefixed("encoder.backbone.", state)}},
    "a pair": lambda state: (state, {"epoch": 3}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrapping", list(WRAPPINGS))
def test_wrapped_file_opens_as_its_weights_alone(
    tmp_path: Path, states: dict[str, State], wrapping: str, kind: str
) -> None:
    torch.save(WRAPPINGS[wrapping](states[kind]), tmp_path / "file.ckpt")
    assert not check_same(tmp_path / "file.ckpt", kind, states[kind]).notes


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "before torch 1.6": partial(torch.save, _use_new_zipfile_serialization=False),
    "before torch 1.6, protocol 5": partial(torch.save, _use_new_zipfile_serialization=False, pickle_protocol=5),
    **{f"protocol {protocol}": partial(torch.save, pickle_protocol=protocol) for protocol in (3, 4, 5)},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("writer", list(WRITERS))
def test_file_opens_however_it_was_written(tmp_path: Path, states: dict[str, State], writer: str, kind: str) -> None:
    content = training(prefixed("module.", states[kind]))
    WRITERS[writer](content, tmp_path / "file.pth.tar")
    assert not check_same(tmp_path / "file.pth.tar", kind, states[kind]).notes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prefix", ["module.", "model._orig_mod.", "state_dict.net."])
def test_safetensors_open_with_prefixes(tmp_path: Path, states: dict[str, State], prefix: str, kind: str) -> None:
    save_file(prefixed(prefix, states[kind]), tmp_path / "file.safetensors", metadata={"format": "pt"})
    check_same(tmp_path / "file.safetensors", kind, states[kind])


KEYS = (
    *("model", "state_dict", "module", "model_state_dict", "model_state", "net", "network", "weights", "params", "ema"),
    *("model_ema", "state_dict_ema", "ema_state_dict", "teacher", "student", "encoder", "backbone", "target_encoder"),
)


@pytest.mark.parametrize("key", KEYS)
def test_weights_are_found_under_any_key_and_prefix(tmp_path: Path, states: dict[str, State], key: str) -> None:
    content = {"epoch": 3, "checkpoint": {key: prefixed(f"{key}.", states["MAE encoder"])}}
    torch.save(content, tmp_path / "file.pt")
    check_same(tmp_path / "file.pt", "MAE encoder", states["MAE encoder"], key_path := f"checkpoint.{key}")
    assert (
        loaded(tmp_path / "file.pt", "MAE encoder", "checkpoint").id == loaded(tmp_path / "file.pt", "MAE", key_path).id
    )


def test_names_that_are_a_layouts_own_are_no_prefix(tmp_path: Path, states: dict[str, State]) -> None:
    for kind, prefix in (("MAE encoder", "encoder."), ("MAE", "encoder."), ("MAE", "backbone.")):
        torch.save(prefixed(prefix, states[kind]), tmp_path / "prefixed.pth")
        check_same(tmp_path / "prefixed.pth", kind, states[kind])
    without = {name: value for name, value in states["SimMIM"].items() if name != "encoder.mask_token"}
    torch.save({"model": without}, tmp_path / "supervised.pth")
    with pytest.raises(MimiaError, match=r"a SimMIM with its decoder but lacks parameter encoder\.mask_token"):
        loaded(tmp_path / "supervised.pth", "SimMIM")


def test_what_is_no_part_of_the_model_is_named(tmp_path: Path, states: dict[str, State]) -> None:
    averaged = AveragedModel(Tree(states["MAE"])).state_dict()
    torch.save({"model": averaged}, tmp_path / "averaged.pth")
    assert check_same(tmp_path / "averaged.pth", "MAE", states["MAE"]).notes == (
        "left out, as no part of the model: model.n_averaged",
    )
    metrics = {
        "loss.weight": torch.ones(3),
        "metric.total": torch.tensor(1),
        "probe.weight": torch.ones(3),
        "a": torch.ones(1),
    }
    torch.save(lightning("model.", metrics)(states["MAE"]), tmp_path / "lightning.ckpt")
    (note,) = check_same(tmp_path / "lightning.ckpt", "MAE", states["MAE"]).notes
    assert note.endswith(": state_dict.loss.weight, state_dict.metric.total, state_dict.probe.weight and 1 more")
    torch.save({"model": states["MAE"], "ema": {"shadow_params": [torch.ones(3)]}}, tmp_path / "list.pth")
    assert check_same(tmp_path / "list.pth", "MAE", states["MAE"]).notes == (
        "left out, as no part of the model: ema.shadow_params",
    )


@pytest.mark.parametrize(
    "beside",
    [
        lambda state: {"model": prefixed("backbone.", state) | {"head.weight": torch.ones(10, 48)}},
        lambda state: {
            "teacher": prefixed("module.backbone.", state) | {"module.head.mlp.0.weight": torch.ones(9, 48)}
        },
        lambda state: {"state_dict": prefixed("model.", state) | {"classifier.bias": torch.ones(10)}},
        lambda state: {"state_dict": prefixed("net.", state) | {"online_classifier.linear.weight": torch.ones(10, 48)}},
        lambda state: {"encoder": state, "classifier": {"fc": {"weight": torch.ones(10, 48)}}},
        lambda state: prefixed("0.", state) | {"1.fc.weight": torch.ones(10, 48)},
    ],
)
def test_head_beside_an_encoder_is_not_left_out(tmp_path: Path, states: dict[str, State], beside: Wrap) -> None:
    torch.save(beside(states["MAE encoder"]), tmp_path / "file.pth")
    with pytest.raises(
        MimiaError, match=r"has a head beside its encoder \(.*\) and no decoder: it seems to be supervised"
    ):
        loaded(tmp_path / "file.pth", "MAE encoder")


def test_head_under_the_prefix_is_refused_as_without_it(tmp_path: Path, states: dict[str, State]) -> None:
    content = states["MAE encoder"] | {"head.weight": torch.ones(10, 48)}
    torch.save({"model": prefixed("module.", content)}, tmp_path / "file.pth")
    with pytest.raises(MimiaError, match=r"has a classification head \(head\.weight\)"):
        loaded(tmp_path / "file.pth", "MAE encoder")


def other(state: State) -> State:
    return {name: value + 1 if value.is_floating_point() else value for name, value in state.items()}


SEVERAL: dict[str, tuple[Callable[[State, State], Any], str, str]] = {
    "raw and EMA": (lambda raw, ema: {"state_dict": raw, "state_dict_ema": ema}, "state_dict", "state_dict_ema"),
    "student and teacher": (
        lambda student, teacher: {s: prefixed("module.", v) for s, v in (("student", student), ("teacher", teacher))},
        "student",
        "teacher",
    ),
    "in one dictionary": (
        lambda model, ema: {"state_dict": prefixed("model.", model) | prefixed("ema.model.", ema)},
        "state_dict.model",
        "state_dict.ema",
    ),
    "nested": (lambda raw, ema: {"model": raw, "ema": {"decay": 0.99, "state": ema}}, "model", "ema"),
    "at the top": (lambda raw, ema: {**raw, "ema": ema}, ".", "ema"),
    "in a list": (lambda first, second: [first, second], "0", "1"),
}


@pytest.mark.parametrize("kind", ["MAE", "SimMIM", "mmpretrain MAE"])
@pytest.mark.parametrize("case", list(SEVERAL))
def test_of_several_sets_of_weights_the_settings_choose(
    tmp_path: Path, states: dict[str, State], case: str, kind: str
) -> None:
    wrap, *names = SEVERAL[case]
    both = (states[kind], other(states[kind]))
    torch.save(wrap(*both), tmp_path / "file.pth")
    with pytest.raises(MimiaError) as refused:
        loaded(tmp_path / "file.pth", kind)
    assert f"holds several sets of weights, {names[0]} and {names[1]}: choose one by --weights NAME" in str(
        refused.value
    )
    found = [check_same(tmp_path / "file.pth", kind, state, name) for state, name in zip(both, names, strict=True)]
    assert found[0].id != found[1].id
    assert found[1].notes == (f"of the weights in the file, {names[1]} is used, and not {names[0]}",)
    with pytest.raises(
        MimiaError, match=rf"no weights called teachr, but {re.escape(names[0])} and {names[1]}: pass one"
    ):
        loaded(tmp_path / "file.pth", kind, "teachr")


def test_weights_that_are_the_same_need_no_choice(tmp_path: Path, states: dict[str, State]) -> None:
    copy = {name: value.clone() for name, value in states["MAE"].items()}
    torch.save({"student": states["MAE"], "teacher": copy}, tmp_path / "file.pth")
    assert check_same(tmp_path / "file.pth", "MAE", states["MAE"]).notes == (
        "student and teacher are the same weights",
    )
    copy["norm.bias"] = copy["norm.bias"].clone()
    copy["norm.bias"][0] += 1e-7
    torch.save({"student": states["MAE"], "teacher": copy}, tmp_path / "file.pth")
    with pytest.raises(MimiaError, match="several sets of weights, student and teacher"):
        loaded(tmp_path / "file.pth", "MAE")


def test_file_without_a_choice_takes_the_name_of_its_weights_only(tmp_path: Path, states: dict[str, State]) -> None:
    torch.save({"model": states["MAE"]}, tmp_path / "file.pth")
    assert not check_same(tmp_path / "file.pth", "MAE", states["MAE"], "model").notes
    with pytest.raises(MimiaError, match="holds no weights called ema, but model: pass one of these by --weights NAME"):
        loaded(tmp_path / "file.pth", "MAE", "ema")


def test_command_line_chooses(tmp_path: Path, mae_state: Callable[..., State]) -> None:
    state = mae_state(192, decoder_width=64)
    torch.save({"model": state, "model_ema": other(state)}, tmp_path / "mae_visualize.pth")
    arguments = ["inspect", str(tmp_path / "mae_visualize.pth"), "--target-space", "normalised"]
    assert "model and model_ema: choose one by --weights" in str(CliRunner().invoke(app, arguments).exception)
    result = CliRunner().invoke(app, [*arguments, "--weights", "model_ema"])
    assert result.exit_code == 0, result.output
    assert "of the weights in the file, model_ema is used, and not model" in result.output
    for command in ("audit", "infer"):
        assert "--weights" in CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"}).output


def test_weights_in_half_precision_are_brought_to_single(tmp_path: Path, states: dict[str, State]) -> None:
    for dtype in (torch.float16, torch.bfloat16):
        half = {name: value.to(dtype) for name, value in states["MAE"].items()}
        torch.save(deepspeed(prefixed("module.", half)), tmp_path / "half.pt", pickle_protocol=4)
        found = check_same(tmp_path / "half.pt", "MAE", {name: value.float() for name, value in half.items()})
        assert found.notes == (f"weights are stored as {dtype} and computed with as torch.float32",)


def test_two_weights_of_one_name_are_refused(tmp_path: Path, states: dict[str, State]) -> None:
    torch.save(states["MAE"] | around_blocks(states["MAE"]), tmp_path / "file.pth")
    with pytest.raises(MimiaError, match="has two weights of one name, with a wrapper and without"):
        loaded(tmp_path / "file.pth", "MAE")


class Whole(nn.Module):
    """A model that is pickled as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(3)


REFUSED: dict[str, tuple[Wrap, str]] = {
    "a whole model": (lambda _: Whole(), r"holds .*\.Whole, a whole model with its code: save its weights alone"),
    "a whole model under a key": (
        lambda _: {"model": Whole(), "epoch": 3},
        r"holds .*\.Whole, a whole model with its code",
    ),
    "a list": (
        lambda state: {"decay": 0.99, "shadow_params": list(state.values())},
        r"holds a list of weights without their names \(shadow_params\), which fit no model",
    ),
    "weights of transformers": (
        lambda state: {"state_dict": {"model.vit.embeddings.position_embeddings": torch.ones(3)}},
        r"holds weights of transformers, which need their config\.json",
    ),
    "another model": (
        lambda _: {"state_dict": {"module.layer1.0.conv1.weight": torch.ones(3), "module.fc.bias": torch.ones(3)}},
        r"no known layout \(its first names are module\.fc\.bias, module\.layer1\.0\.conv1\.weight\)",
    ),
    "no weights": (lambda _: {"epoch": 3, "model": None}, "holds no weights by name"),
    "partitioned weights": (
        lambda state: deepspeed({name: torch.empty(0) for name in state}),
        r"does not hold the weights themselves \(.* is empty\), which ZeRO stage 3 .*: run `python zero_to_fp32",
    ),
    "sparse weights": (
        lambda state: {"model": prefixed("module.", state) | {"module.norm.bias": torch.ones(48).to_sparse()}},
        r"module\.norm\.bias is a torch\._utils\._rebuild_sparse_tensor: save the weights as ordinary tensors",
    ),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_is_no_set_of_weights_is_refused_with_the_cause(
    tmp_path: Path, states: dict[str, State], case: str
) -> None:
    wrap, message = REFUSED[case]
    torch.save(wrap(states["MAE"]), tmp_path / "file.pth")
    with pytest.raises(MimiaError, match=message) as refused:
        loaded(tmp_path / "file.pth", "MAE")
    assert len(str(refused.value)) <= 300


NAMES = (
    "cls_token",
    "pos_embed",
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "blocks.0.norm1.bias",
    "norm.bias",
)
PARTS = ("module", "_orig_mod", "model", "encoder", "backbone", "student", "net", "0", "my_mae", "state_dict")
BESIDE: dict[str, Any] = {
    "epoch": 3,
    "args": argparse.Namespace(lr=1e-4),
    "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"params": [0]}]},
    "rng_state": torch.zeros(8, dtype=torch.uint8),
}


@settings(deadline=None, max_examples=150)
@given(
    keys=st.lists(st.sampled_from(PARTS), max_size=4),
    prefix=st.lists(st.sampled_from(PARTS), max_size=6),
    outside=st.lists(st.sampled_from(["n_averaged", "loss.weight", "scale"]), max_size=2, unique=True),
)
def test_any_nesting_of_keys_and_prefixes_is_found(keys: list[str], prefix: list[str], outside: list[str]) -> None:
    state = {name: torch.ones(3) for name in NAMES}
    before = "".join(f"{part}." for part in prefix)
    content: Any = prefixed(before, state)
    if prefix:
        content |= {f"of_trainer.{name}": torch.ones(1) for name in outside}
    for key in reversed(keys):
        content = {**BESIDE, key: content}
    found = find(content, Path("file.pth"))
    chosen, notes = choose(found, None, Path("file.pth"))
    assert chosen.contents.state.keys() == state.keys()
    assert all(chosen.contents.state[name] is value for name, value in state.items())
    assert len(notes) == bool(prefix and outside)
    assert not keys or {"epoch", "args"} <= chosen.contents.beside.keys()
