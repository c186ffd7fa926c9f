"""Device, precision, threads and memory of a process.

`config.settings` imports this module, so torch is imported only where it is used.
"""

import ctypes
import platform
import timeit
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

from mimia.runtime.errors import MimiaError
from mimia.runtime.progress import console

if TYPE_CHECKING:
    from accelerate import Accelerator

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of mallopt(3)
_KEPT = 2**30  # bytes
_EMULATED = 2.0  # time in bf16 over that in fp32: a processor with bf16 takes less


class ComputeSettings(BaseModel):
    """Device, precision and threads."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: Literal["auto", "cpu", "cuda", "mps", "xpu"] = Field(
        "auto", description="device; auto takes an accelerator if there is one"
    )
    precision: Literal["fp32", "bf16"] = Field(
        "fp32", description="bf16 is faster on processors that have it; DP-SGD always trains in fp32"
    )
    executor: str = Field("local", description="executor of the shadow models' trainings")
    threads: PositiveInt | None = Field(None, le=1024, description="threads; default: as torch chooses")


@lru_cache(maxsize=1)  # all of a process share one state: a second would change the first
def accelerator(settings: ComputeSettings) -> "Accelerator":
    """Return the process's `Accelerator`, and print a note if bf16 is slow on this processor.

    Raises:
        MimiaError: The device does not exist here, or a launcher started several processes.
    """
    import torch
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    _keep_freed_memory()
    AcceleratorState._reset_state(reset_partial_state=True)
    made = Accelerator(
        cpu=settings.device == "cpu",
        mixed_precision="bf16" if settings.precision == "bf16" else "no",
    )
    if made.num_processes > 1:
        raise MimiaError("mimia runs as one process: start it without torchrun or accelerate launch.")
    if settings.device not in ("auto", made.device.type):
        raise MimiaError(f"There is no {settings.device} device here, only {made.device.type}: pass --device auto.")
    if settings.precision == "bf16" and made.device.type == "cpu" and _bf16_cost() > _EMULATED:
        console.print("bf16 is slower than fp32 on this processor: leave the precision at fp32, which is the default.")
    return made


def _bf16_cost() -> float:
    """Return the time of a matrix product in bf16 over that in fp32."""
    import torch

    exact, rounded = (torch.ones(512, 512, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    reference, cost = (
        min(timeit.repeat(partial(torch.mm, each, each), number=1, repeat=4)) for each in (exact, rounded)
    )
    return cost / reference


def _keep_freed_memory() -> None:
    """Keep freed memory in the process.

    glibc returns blocks of more than 32 MiB to the system and maps them anew page by page, which can take a third of a
    small model's time.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)


def hardware(settings: ComputeSettings) -> dict[str, str | int]:
    """Return device, name, precision and threads, which decide over the last bits of a result."""
    import torch

    device = accelerator(settings).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "precision": settings.precision,
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    packages = ("mimia", "torch", "numpy", "scikit-learn", "scipy", "accelerate", "opacus", "pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
