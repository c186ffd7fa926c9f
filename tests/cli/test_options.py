"""How command lines become settings; nothing is trained."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mimia.config.settings import Settings, read_settings
from mimia.runtime.errors import MimiaError

Run = Callable[[str], tuple[int, str, str]]
COMMANDS: dict[str, dict[str, dict[str, Any]]] = {
    "audit": {
        "--target a": {"target": "a"},
        "--embeddings a": {"embeddings": "a"},
        "--decoder fitted": {"decoder": {"source": "fitted"}},
        "--data a": {"data": {"source": "a"}},
        "--members a": {"data": {"members": "a"}},
        "--nonmembers a": {"data": {"nonmembers": "a"}},
        "--canaries a": {"data": {"canaries": "a"}},
        "--reference a": {"data": {"reference": "a"}},
        "--near-duplicates remove": {"data": {"near_duplicates": "remove"}},
        "--n-members 3": {"split": {"n_members": 3}},
        "--n-nonmembers 3": {"split": {"n_nonmembers": 3}},
        "--image-size 3": {"data": {"image_size": 3}},
        "--recipe mae-tiny": {"recipe": {"preset": "mae-tiny"}},
        "--epochs 3": {"recipe": {"epochs": 3}},
        "--seed 3": {"recipe": {"seed": 3}},
        "--shadows 4": {"shadows": {"count": 4}},
        "--attacks 'threshold, lira'": {"attacks": {"names": ["threshold", "lira"]}},
        "--device cpu": {"compute": {"device": "cpu"}},
        "--store a": {"store": "a"},
        "--out a": {"out": "a"},
        "-o a": {"out": "a"},
        "--set data.source=a": {"data": {"source": "a"}},
        "--set signals.draws=3 --set split.seed=3": {"signals": {"draws": 3}, "split": {"seed": 3}},
        "--set 'attacks.options.rmia.gamma=1.5'": {"attacks": {"options": {"rmia": {"gamma": 1.5}}}},
    },
    "infer --candidates a": {
        "--fdr 0.2": {"evaluation": {"false_discovery_rate": 0.2}},
        "--reference a": {"data": {"reference": "a"}},
    },
    "pretrain --out a": {
        "--n-images 3": {"split": {"n_members": 3}},
        "--canaries 3": {"canaries": {"count": 3}},
        "--canary-kind noise": {"canaries": {"kind": "noise"}},
    },
    "inspect a": {"--target-space normalised": {"checkpoint": {"target_space": "normalised"}}},
    "reproduce figure-5": {
        "--threads 3": {"compute": {"threads": 3}},
        "--precision bf16": {"compute": {"precision": "bf16"}},
    },
    "defend": {"--n-members 3": {"split": {"n_members": 3}}, "--data a": {"data": {"source": "a"}}},
    "self-test": {"--seed 3": {"split": {"seed": 3}, "recipe": {"seed": 3}}, "--data a": {"data": {"source": "a"}}},
    "doctor": {"--store a": {"store": "a"}},
}
IMPORTS = """
import sys
from mimia.cli.app import main
sys.argv = ["mimia", "--help"]
try:
    main()
finally:
    print("imported:", *sys.modules)
"""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch, mimia: Run) -> Callable[[str], Settings]:
    """Return the settings that a command line stands for, and end the command there."""

    def parse(line: str) -> Settings:
        found = []

        def read(file: Path | None, values: dict[str, Any]) -> Settings:
            found.append(read_settings(file, values))
            raise MimiaError("This is far enough.")

        monkeypatch.setattr("mimia.config.settings.read_settings", read)
        assert mimia(line) == (2, "", "Error: This is far enough.\n")
        return found[0]

    return parse


@pytest.mark.parametrize(
    ("line", "values"),
    [(f"{command} {flag}", values) for command, flags in COMMANDS.items() for flag, values in flags.items()],
)
def test_flag_sets_its_setting(parsed: Callable[[str], Settings], line: str, values: dict[str, Any]) -> None:
    assert parsed(line) == read_settings(None, values)


def test_flag_wins_over_set_and_set_over_the_file(place: Path, parsed: Callable[[str], Settings]) -> None:
    (place / "some.toml").write_text("[recipe]\nepochs = 1\nseed = 1\n[split]\nseed = 1\n")
    settings = parsed("audit -c some.toml --set split.seed=2 --set recipe.seed=2 --seed 3")
    assert (settings.recipe.epochs, settings.recipe.seed, settings.split.seed) == (1, 3, 2)


@pytest.mark.parametrize("command", [*COMMANDS, "export", "attacks", "report", "init"])
def test_every_command_has_help(mimia: Run, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    name = command.split()[0]
    code, out, _ = mimia(f"{name} -h")
    assert code == 0
    assert f"mimia {name}" in out
    assert all(flag.split()[0] in out for flag in COMMANDS.get(command, ()))


def test_help_of_an_option_is_that_of_its_setting(mimia: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    out = mimia("infer --help")[1]
    shown = next(line for line in out.splitlines() if "--fdr" in line)
    description = type(read_settings(None, {}).evaluation).model_fields["false_discovery_rate"].description
    assert description is not None
    assert "<float>" in shown
    assert description.lower() in shown.lower()
    assert "default: (0.1)" in shown
    assert "auto|cpu|cuda|mps|xpu" in out


def test_help_is_answered_without_importing_what_is_slow(
    execute: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    ended = execute(sys.executable, "-c", IMPORTS)
    assert ended.returncode == 0
    assert "Does this image encoder give away the images" in ended.stdout
    imported = set(ended.stdout.rpartition("imported:")[2].split())
    assert "mimia.cli.audit" in imported
    assert not imported & {"torch", "transformers", "matplotlib", "sklearn", "datasets", "numpy", "pydantic"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("audit --set recipe.epochs", "--set takes KEY=VALUE, as in recipe.epochs=800, and got 'recipe.epochs'"),
        ("audit --set recipe.epoch=3", "There is no setting recipe.epoch: `mimia init` writes a file with all of them"),
        ("audit --set recipe=3 --epochs 3", "--set recipe=3 gives one value to a table of settings: name a key"),
        ("audit --set split.n_known=3", "Setting split.n_known is now called split.n_population: rename it"),
        ("audit --seed -1", "Setting recipe.seed: Input should be greater than or equal to 0 (given: -1)"),
        ("audit --device tpu", "Setting compute.device: Input should be 'auto', 'cpu', 'cuda', 'mps' or 'xpu'"),
        ("audit --recipe none", "there is no recipe 'none': choose one of mae-nano"),
        ("audit --config broken.toml", "broken.toml is not valid TOML"),
        ("audit --config none.toml", "There is no settings file none.toml: `mimia init` writes one"),
    ],
)
def test_wrong_setting_ends_with_one_sentence(mimia: Run, line: str, message: str) -> None:
    code, out, err = mimia(line)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("line", ["audit --epochs many", "audit --area", "infer", "pretrain --data members", "no-such"])
def test_command_line_that_does_not_parse_is_refused(mimia: Run, line: str) -> None:
    code, out, err = mimia(line)
    assert (code, out) == (2, "")
    assert "Usage: " in err
