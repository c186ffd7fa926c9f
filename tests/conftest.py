"""What several test modules share."""

import ctypes
import io
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from PIL import Image
from torch.optim import AdamW, Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from mimia.data.imageset import ImageSet
from mimia.data.loading import load_sides
from mimia.runtime.arrays import Pixels
from mimia.runtime.store import Store
from mimia.validity import pixel_network


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(scope="session")
def digits_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store that holds the decoded digits and nothing else: decoding them takes a second."""
    place = tmp_path_factory.mktemp("digits")
    load_sides({"source": "digits"}, Store(place))
    return place


@pytest.fixture(scope="session")
def digits(digits_store: Path) -> ImageSet:
    return load_sides({"source": "digits"}, Store(digits_store)).images


@pytest.fixture(scope="session")
def store_with_digits(digits_store: Path) -> Callable[[Path], Path]:
    """Make a new store that need not decode the digits."""

    def make(place: Path) -> Path:
        shutil.copytree(digits_store, place, dirs_exist_ok=True)
        return place

    return make


@pytest.fixture(scope="module")
def quick_network() -> Iterator[None]:
    """Train the blind baseline's network for a moment: for runs of which its answer is not what is tested."""
    with patch.object(pixel_network, "_STEPS", 10):
        yield


@pytest.fixture
def photos() -> Pixels:
    """Six images of noise, (6, 3, 8, 8)."""
    return np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8), dtype=np.uint8)


@pytest.fixture
def photo_folder(tmp_path: Path, photos: Pixels) -> Path:
    """The photos as PNG at several depths, so named that the order of their paths is the order of the photos."""
    folder = tmp_path / "photos"
    for name, pixels in zip(["a/0", "a/1", "a/b/2", "a/c/d/3", "e/4", "f5"], photos, strict=True):
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.transpose(1, 2, 0)).save(path)
    return folder


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    libc = ctypes.CDLL(None)
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or libc.mount(b"tmpfs", bytes(disk), b"tmpfs", 0, b"size=64k") != 0:
        pytest.skip("only root may mount a disk that is small enough to fill")
    yield disk
    libc.umount2(bytes(disk), 2)  # MNT_DETACH: a failed test may hold a file open


@pytest.fixture
def remount() -> Callable[[Path], None]:
    """Make a disk of `full_disk` read-only."""

    def make(disk: Path) -> None:
        read_only, again = 1, 32
        assert ctypes.CDLL(None).mount(b"tmpfs", bytes(disk), b"tmpfs", again | read_only, None) == 0

    return make


@pytest.fixture(scope="session")
def serve() -> Callable[..., AbstractContextManager[str]]:
    """Serve a function from images to bytes on a port of this machine; the block gets its address."""

    @contextmanager
    def served(answer: Callable[[Pixels], bytes], status: int = 200) -> Iterator[str]:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                content = answer(np.load(io.BytesIO(body), allow_pickle=False))
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}/embed"
            finally:
                server.shutdown()
                thread.join()

    return served


@pytest.fixture(scope="session")
def counted_steps() -> Callable[..., AbstractContextManager[list[int]]]:
    """Count the steps of all pre-trainings in a block; raise an interrupt right after one, if wanted."""

    @contextmanager
    def counted(interrupt_at: int | None = None) -> Iterator[list[int]]:
        count = [0]

        def hook(optimizer: Optimizer, *_: object) -> None:
            if not isinstance(optimizer, AdamW):  # of a classifier without a model
                return
            count[0] += 1
            if count[0] == interrupt_at:
                raise KeyboardInterrupt

        handle = register_optimizer_step_post_hook(hook)
        try:
            yield count
        finally:
            handle.remove()

    return counted
