"""Endpoints and functions in bad faith: each ends in one sentence, and never in a verdict."""

import io
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from mimia.config.recipes import Recipe
from mimia.config.settings import SignalSettings
from mimia.data.imageset import ImageSet
from mimia.jobs.audit import audit
from mimia.models import endpoint
from mimia.models.base import ModelSpec
from mimia.models.embedders import open_embedder
from mimia.runtime.arrays import Floats, Pixels
from mimia.runtime.compute import ComputeSettings
from mimia.runtime.errors import MimiaError
from mimia.runtime.store import Store
from mimia.signals.base import QueryConfig
from mimia.signals.extract import extract_signals
from mimia.signals.queried import QueriedModel

Reply = tuple[int, dict[str, str], bytes]
IMAGES = np.random.default_rng(0).integers(0, 256, (8, 1, 8, 8), dtype=np.uint8)


def embed(pixels: Pixels) -> Floats:
    vectors: Floats = pixels.reshape(len(pixels), -1)[:, :32].astype(np.float32) / 255
    return vectors


def npy(values: Floats) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


@contextmanager
def served(reply: Callable[[str, bytes, dict[str, str]], Reply]) -> Iterator[str]:
    """Answer each POST by a function of path, body and headers."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = reply(self.path, body, dict(self.headers))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(content))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def answer(content: bytes) -> Callable[..., Reply]:
    return lambda *_: (200, {}, content)


def good(_: str, body: bytes, _headers: object) -> Reply:
    return 200, {}, npy(embed(np.load(io.BytesIO(body))))


def header(text: str, version: bytes = b"\x01\x00") -> bytes:
    content = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY" + version + len(content).to_bytes(2 if version[0] == 1 else 4, "little") + content


def described(shape: object, kind: object = "<f4", *, order: object = False) -> bytes:
    return header(f"{{'descr': {kind!r}, 'fortran_order': {order!r}, 'shape': {shape!r}}}")


SHORT = bytes(8 * 3 * 4)
NO_VECTORS: dict[str, bytes] = {
    "nothing": b"",
    "text": b"<html>Not found</html>",
    "magic alone": b"\x93NUMPY",
    "no literal": header("{'descr': open('/etc/passwd')}"),
    "brackets": header("(" * 3000),
    "nested brackets": header("[" * 3000 + "]" * 3000),
    "a number": header("7"),
    "missing keys": header("{'descr': '<f4'}"),
    "digits": header("{'descr': '<f4', 'fortran_order': False, 'shape': (8, " + "9" * 3000 + ")}"),
    "binary": b"\x93NUMPY\x01\x00\x76\x00" + bytes(range(118)),
    "long header": b"\x93NUMPY\x02\x00\xff\xff\xff\x7f" + b" " * 1000,
    "version 9": header("{}", b"\x09\x09"),
    "pickled": npy(np.array([{"a": 1}], dtype=object)),
    "1e9 columns": described((8, 10**9)),
    "1e30 columns": described((8, 10**30)),
    "no columns": described((8, 0)),
    "negative columns": described((8, -3)),
    "true columns": described((8, True)) + SHORT,
    "rows": described((9, 3)) + bytes(9 * 3 * 4),
    "one dimension": described((8,)) + bytes(32),
    "many dimensions": described((8,) + (1,) * 500) + bytes(32),
    "integers": described((8, 3), "<i4") + SHORT,
    "objects": described((8, 3), "|O") + SHORT,
    "long doubles": described((8, 3), "<f16") + bytes(8 * 3 * 16),
    "a structure": described((8, 3), [("a" * 1000, "<f4")]) + SHORT,
    "cut": described((8, 3)) + SHORT[:-1],
    "longer": described((8, 3)) + SHORT + b"x",
    "zeros": described((8, 3)) + SHORT,
    "NaN": npy(np.full((8, 3), np.nan)),
    "infinite": npy(np.full((8, 3), np.inf)),
    "overflow": npy(embed(IMAGES).astype(np.float64) * 1e300),
    "overflow in float32": npy(embed(IMAGES) * np.float32(1e30)),
    "tiny": npy(embed(IMAGES).astype(np.float64) * 1e-300),
}


@pytest.mark.parametrize("kind", list(NO_VECTORS))
def test_answer_that_is_no_embedding_is_refused(refused: Callable[..., Any], kind: str) -> None:
    with served(answer(NO_VECTORS[kind])) as url, refused():
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", ["<f2", "<f4", "<f8", ">f4", ">f8"])
def test_every_kind_of_floating_point_number_is_read(kind: str, order: Any) -> None:
    vectors = np.asarray(embed(IMAGES), dtype=kind, order=order)
    with served(answer(npy(vectors))) as url:
        np.testing.assert_array_equal(open_embedder(url)(IMAGES), vectors)


def test_vectors_of_another_length_than_before_are_refused(refused: Callable[..., Any]) -> None:
    widths = iter([5, 6])
    with served(lambda *_: (200, {}, npy(embed(IMAGES)[:, : next(widths)]))) as url:
        found = open_embedder(url)
        assert found(IMAGES).shape == (8, 5)
        with refused("vectors of 6 numbers, and of 5 before"):
            found(IMAGES)


SAME: dict[str, Callable[[Pixels], Floats]] = {
    "constant": lambda pixels: np.ones((len(pixels), 3), np.float32),
    "constant row": lambda pixels: np.tile(np.array([0.1, 0.2], np.float32), (len(pixels), 1)),
    "rounding": lambda pixels: 1 + 1e-8 * embed(pixels).astype(np.float64),
}


@pytest.mark.parametrize("remote", [True, False], ids=["endpoint", "function"])
@pytest.mark.parametrize("kind", list(SAME))
def test_answers_that_do_not_depend_on_the_image_are_refused(
    tmp_path: Path, refused: Callable[..., Any], kind: str, remote: bool
) -> None:
    spec = ModelSpec(
        image_size=8, channels=1, patch_size=2, mask_ratio=0.75, target_space="normalised", mean=(0.3,), std=(0.4,)
    )
    ids = np.array([f"{number:032x}" for number in range(8)])
    images = ImageSet(IMAGES, ids, ids, np.zeros((8, 0)))
    compute = ComputeSettings(device="cpu")
    query = QueryConfig(SignalSettings(), Recipe.model_validate({"preset": "mae-nano"}), compute, spec)

    def reply(_: str, body: bytes, _headers: object) -> Reply:
        return 200, {}, npy(SAME[kind](np.load(io.BytesIO(body))))

    with served(reply) as url, refused("the same for all of 8 different images"):
        target = QueriedModel("target", open_embedder(url if remote else SAME[kind]), compute)
        extract_signals(["embeddings"], [target], images, np.arange(8), query, Store(tmp_path))


def test_large_answer_takes_no_memory(refused: Callable[..., Any]) -> None:
    content = described((8, 3)) + bytes(64 << 20)
    with served(answer(content)) as url:
        tracemalloc.start()
        with refused("longer than its header says"):
            open_embedder(url)(IMAGES)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 16 << 20


def test_packed_answer_is_not_unpacked(refused: Callable[..., Any]) -> None:
    with served(lambda *_: (200, {"Content-Encoding": "gzip"}, b"\x1f\x8b" + bytes(100))) as url, refused("compresses"):
        open_embedder(url)(IMAGES)


def test_length_of_an_answer_that_lies_is_refused(refused: Callable[..., Any]) -> None:
    with served(lambda *_: (200, {"Content-Length": "10"}, npy(embed(IMAGES)))) as url, refused():
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize("place", ["headers", "body"])
def test_dripping_answer_ends(refused: Callable[..., Any], place: str) -> None:
    """A byte each 50 ms: each is in time for the socket, all together would take a minute."""
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 1152\r\n\r\n"
    whole = text + npy(embed(IMAGES)) if place == "body" else b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 2000
    with socket.create_server(("127.0.0.1", 0)) as server:
        ended = threading.Event()

        def drip() -> None:
            connection, _ = server.accept()
            with connection:
                at_once = len(text) if place == "body" else 0
                connection.sendall(whole[:at_once])
                for byte in whole[at_once:]:
                    if ended.wait(0.05):
                        return
                    connection.sendall(bytes([byte]))

        thread = threading.Thread(target=drip)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with patch.object(endpoint, "PATIENCE", 0.5), patch.object(endpoint, "HURRY", 0.2), refused("in time"):
            open_embedder(url)(IMAGES)
        ended.set()
        thread.join()


def test_redirect_within_the_host_is_followed() -> None:
    def reply(path: str, body: bytes, headers: dict[str, str]) -> Reply:
        return (308, {"Location": "/v2"}, b"") if path == "/v1" else good(path, body, headers)

    with served(reply) as url:
        np.testing.assert_array_equal(open_embedder(f"{url}/v1")(IMAGES), embed(IMAGES))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_images_are_sent_to_no_other_host(refused: Callable[..., Any], status: int) -> None:
    asked: list[str] = []

    def elsewhere(path: str, body: bytes, headers: dict[str, str]) -> Reply:
        asked.append(path)
        return good(path, body, headers)

    with (
        served(elsewhere) as other,
        served(lambda *_: (status, {"Location": f"{other}/?token=secret"}, b"")) as url,
        refused("redirects"),
    ):
        open_embedder(url)(IMAGES)
    assert asked == []


@pytest.mark.parametrize(
    "target", ["/", "", "http://[", "http://127.0.0.1:99999999/", "file:///etc/passwd", "//", "\x01", "x" * 60_000]
)
def test_redirect_that_leads_nowhere_is_refused(refused: Callable[..., Any], target: str) -> None:
    with served(lambda *_: (307, {"Location": target}, b"")) as url, refused():
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize("status", [429, 503])
def test_busy_endpoint_is_asked_again(status: int) -> None:
    waits = iter(["0", "soon", None])

    def reply(path: str, body: bytes, headers: dict[str, str]) -> Reply:
        wait = next(waits)
        return (status, {"Retry-After": wait}, b"") if wait else good(path, body, headers)

    with served(reply) as url:
        started = time.monotonic()
        np.testing.assert_array_equal(open_embedder(url)(IMAGES), embed(IMAGES))
        assert 0.9 < time.monotonic() - started < 5


@pytest.mark.parametrize("wait", ["0", "999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "-5", "9" * 5000])
def test_endpoint_that_stays_busy_is_given_up(refused: Callable[..., Any], wait: str) -> None:
    with (
        served(lambda *_: (503, {"Retry-After": wait}, b"")) as url,
        patch.object(endpoint, "PATIENCE", 2.0),
        refused("status 503"),
    ):
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize("status", [400, 401, 404, 500, 204])
def test_error_of_an_endpoint_is_told_without_what_it_says(refused: Callable[..., Any], status: int) -> None:
    with served(lambda *_: (status, {}, b"" if status == 204 else b"x" * 100_000)) as url, refused():
        open_embedder(url)(IMAGES)


@pytest.mark.parametrize(
    "url",
    [
        "http://",
        "http://[::1",
        "http://host:port/",
        "http://host:99999999/",
        "http://host\n.example/",
        "http://\x00/",
        "HTTP://",
        "http://" + "a" * 100_000,
        "http://" + "ü" * 300 + ".example",
        "http://127.0.0.1:1/",
        "https://127.0.0.1:1/?" + "x" * 100_000,
    ],
    ids=lambda url: repr(url)[:30],
)
def test_address_that_is_none_is_refused(refused: Callable[..., Any], url: str) -> None:
    with refused():
        open_embedder(url)(IMAGES)


def test_server_of_another_protocol_is_refused(refused: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 10)

        thread = threading.Thread(target=greet)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with refused("does not answer"):
            open_embedder(f"http://{address}")(IMAGES)
        thread.join()


@pytest.mark.parametrize(
    "name", ["", ":", "a:", ":b", "..a:b", "os.path:join.x", "x" * 100_000 + ":y", "no\x00such:f", "antigravity.:x"]
)
def test_name_of_no_function_is_refused(refused: Callable[..., Any], name: str) -> None:
    with refused():
        open_embedder(name)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda _: None,
        lambda _: "vectors",
        lambda _: [[1.0], [1.0, 2.0]],
        lambda _: {},
        lambda pixels: embed(pixels)[:, :0],
        lambda pixels: embed(pixels)[1:],
        lambda pixels: embed(pixels) * 0,
        lambda pixels: embed(pixels).astype(np.float64) * 1e200,
        lambda pixels: embed(pixels).astype(np.complex64),
        lambda pixels: np.broadcast_to(np.float32(1), (len(pixels), 10**9)),
    ],
)
def test_answer_of_a_function_is_checked_likewise(refused: Callable[..., Any], wrong: Any) -> None:
    with refused("<lambda> returned"):
        open_embedder(wrong)(IMAGES)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (
            lambda pixels: np.random.default_rng().normal(size=(len(pixels), 8)),
            "gives other vectors for the same images",
        ),
        (lambda pixels: np.ones((len(pixels), 8)), "the same for all of 8 different images"),
    ],
    ids=["random", "constant"],
)
def test_function_that_says_nothing_is_refused_before_a_shadow_is_trained(
    answer: Callable[[Pixels], Floats],
    message: str,
    tmp_path: Path,
    digits: ImageSet,
    counted_steps: Callable[..., AbstractContextManager[list[int]]],
) -> None:
    images = digits.pixels[:400, 0]
    settings = {"store": str(tmp_path / "store"), "recipe": {"epochs": 1}}
    with counted_steps() as steps, pytest.raises(MimiaError, match=message):
        audit(answer, members=images[:100], nonmembers=images[100:], settings=settings)
    assert steps == [0]
