"""Where the arithmetic runs: device, precision, threads and memory."""

import ctypes
import platform
import timeit
from functools import lru_cache, partial
from importlib.metadata import version
from typing import TYPE_CHECKING

import torch

from mimia.config import ComputeSettings
from mimia.errors import MimiaError
from mimia.progress import console

if TYPE_CHECKING:
    from accelerate import Accelerator

_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # names of mallopt(3)
_KEPT = 2**30  # bytes
_IMITATED = 2.0  # times as long as in fp32: longer than any processor takes that has bf16


@lru_cache(maxsize=1)  # all of a process share one state: a second would change the first
def accelerator(settings: ComputeSettings) -> "Accelerator":
    """Give the process's `Accelerator`: one process, one device; say so if bf16 was asked for and is slow there.

    Raises:
        MimiaError: The device that was asked for is not there, or mimia was started by a launcher of several
            processes.
    """
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
    if settings.precision == "bf16" and made.device.type == "cpu" and _bf16_cost() > _IMITATED:
        console.print("bf16 is slower than fp32 on this processor: leave the precision at fp32, which is the default.")
    return made


def _bf16_cost() -> float:
    """Time a product of matrices in bf16, in units of the time in fp32."""
    exact, rounded = (torch.ones(512, 512, dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    reference, cost = (
        min(timeit.repeat(partial(torch.mm, each, each), number=1, repeat=4)) for each in (exact, rounded)
    )
    return cost / reference


def _keep_freed_memory() -> None:
    """Let the next batch have the memory of the last one.

    glibc gives blocks of more than 32 MiB back to the system at once and takes them anew page by page, which can be a
    third of the time that a small model needs for a batch.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT)


def hardware(settings: ComputeSettings) -> dict[str, str | int]:
    """Describe what a result was computed on; the number of threads decides over the last bits."""
    device = accelerator(settings).device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "precision": settings.precision,
        "threads": torch.get_num_threads(),
    }


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    packages = ("mimia", "torch", "numpy", "scikit-learn", "scipy", "accelerate", "opacus", "pillow")
    return {"python": platform.python_version()} | {name: version(name) for name in packages}
