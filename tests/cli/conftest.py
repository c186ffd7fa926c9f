import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mimia.cli.app import main
from mimia.runtime.arrays import Pixels


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for commands to run in, with images and bad input."""
    root = tmp_path_factory.mktemp("place")
    digits = (load_digits().images * (255 / 16)).round().astype(np.uint8)
    shuffled = digits[np.random.default_rng(0).permutation(len(digits))]
    write_images(root / "members", shuffled[:40])
    write_images(root / "others", shuffled[40:200])
    write_images(root / "bright", np.minimum(shuffled[:40], 225) + 30)
    write_images(root / "large", shuffled[:40].repeat(2, axis=1).repeat(2, axis=2))
    write_images(root / "dots", np.arange(100, dtype=np.uint8)[:, None, None])
    (root / "empty").mkdir()
    (root / "file").write_text("no directory")
    (root / "broken.toml").write_text("recipe = [")
    return root


def write_images(folder: Path, images: Pixels) -> None:
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).convert("RGB").save(folder / f"{number:04d}.png")


@pytest.fixture
def mimia(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """Run a command line in this process; return its exit code, output, and errors.

    The progress bars and the lines on what was found at each source are left out of the errors.
    """
    monkeypatch.chdir(place)

    def run(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mimia", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            main()
        code = ended.value.code
        assert isinstance(code, int)
        out, err = capsys.readouterr()
        return code, out, "".join(text for text in err.splitlines(keepends=True) if not re.search("━| found, ", text))

    return run


@pytest.fixture
def execute(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in an empty directory, as a user does."""
    start = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return start(command)

    return run
