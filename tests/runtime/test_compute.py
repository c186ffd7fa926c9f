import platform
import resource
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import torch

from mimia.runtime.compute import ComputeSettings, accelerator, hardware, versions
from mimia.runtime.errors import MimiaError

EXACT = ComputeSettings(device="cpu", precision="fp32", threads=1)
FAST = ComputeSettings(device="cpu", precision="bf16", threads=2)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
    accelerator.cache_clear()


def product_type(settings: ComputeSettings) -> torch.dtype:
    with accelerator(settings).autocast():
        return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype


def test_each_of_two_settings_is_obeyed_whichever_came_last() -> None:
    for settings, dtype in [(EXACT, torch.float32), (FAST, torch.bfloat16)] * 2:
        assert product_type(settings) == dtype
        assert torch.get_num_threads() == settings.threads
        found = hardware(settings)
        assert (found["device"], found["precision"], found["threads"]) == ("cpu", settings.precision, settings.threads)
        assert accelerator(settings).mixed_precision == ("bf16" if settings is FAST else "no")


def test_without_a_number_of_threads_torchs_own_stays() -> None:
    torch.set_num_threads(2)
    accelerator(ComputeSettings(device="cpu"))
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries keep memory as they like")
def test_memory_of_a_batch_serves_the_next_one() -> None:
    def faults(batches: int) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(batches):
            torch.ones(2**26, dtype=torch.uint8)  # 64 MiB
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    accelerator(EXACT)
    faults(50)  # the first blocks come from the system, until one place serves all
    assert faults(20) < 2**26 // resource.getpagesize()


def test_processor_on_which_bf16_is_slow_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    can = torch.cpu.get_capabilities()
    if can["architecture"] != "x86_64":
        pytest.skip("names other features")
    accelerator(FAST)
    told = "bf16 is slower than fp32 on this processor" in " ".join(capsys.readouterr().err.split())
    if can["amx_bf16"] or can["avx512_bf16"]:
        assert not told
    elif not can["avx512_f"]:  # with its wide registers alone, the imitation may do
        assert told
    accelerator(EXACT)
    assert not capsys.readouterr().err


def test_device_that_is_not_there_is_told() -> None:
    absent = "cuda" if not torch.cuda.is_available() else "mps"
    settings = ComputeSettings.model_validate({"device": absent})
    with pytest.raises(MimiaError, match=f"There is no {absent} device here, only .*: pass --device auto"):
        accelerator(settings)


def test_versions_are_those_that_are_installed() -> None:
    found = versions()
    assert found["torch"] == version("torch")
    assert {"python", "mimia", "numpy"} <= found.keys()
