"""What opening a model of the size of ViT-L takes."""

import gc
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

OPEN = """
import json, re, sys, time
from pathlib import Path
from mimia.config.settings import CheckpointSettings
from mimia.models.checkpoints.loading import load_checkpoint

def peak():  # of this program alone: getrusage counts what its parent had, too
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

used, started = {"before": peak()}, time.monotonic()
opened = load_checkpoint(sys.argv[1], CheckpointSettings(target_space="patch-normalised"))
used["seconds"] = time.monotonic() - started
used["opened"] = peak()
used["with id"] = bool(opened.id) * peak()
print(json.dumps(used))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of the memory is read from /proc")
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pth", "safetensors", "transformers"])
def test_opening_a_vit_l_takes_little_more_memory_than_its_file(
    tmp_path: Path,
    mae_state: Callable[..., dict[str, Tensor]],
    save_transformers: Callable[..., Path],
    kind: str,
) -> None:
    state = mae_state(1024, 24, 512, 8, patch=16, grid=14)
    source = file = tmp_path / f"mae.{kind}"
    match kind:
        case "pth":
            torch.save({"model": state}, file)
        case "safetensors":
            save_file(state, file)
        case _:
            source = save_transformers(tmp_path / "hub", state, heads=16, decoder_heads=16)
            file = source / "model.safetensors"
    del state
    gc.collect()
    command = [sys.executable, "-c", OPEN, str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    used: dict[str, float] = json.loads(done.stdout)
    size = file.stat().st_size
    assert size > 1.3e9
    print(kind, {name: round(value / (1 if name == "seconds" else size), 3) for name, value in used.items()})
    limit = 1.2 if kind != "transformers" else 1.5  # which puts queries, keys and values together
    assert used["with id"] - used["before"] <= limit * size
