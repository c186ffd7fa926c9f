import hashlib
import json
import os
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from mimia.models.checkpoints.loading import load_checkpoint
from mimia.runtime.errors import MimiaError

NAME = "someone/some-mae"
NOWHERE = "http://127.0.0.1:9"
FETCH = """
    import sys
    from mimia.models.checkpoints.hub import fetch
    from mimia.runtime.errors import MimiaError
    try:
        print(*sorted(f"{file.name}: {file.read_text()}" for file in fetch(sys.argv[1]).iterdir()), sep=", ")
    except MimiaError as error:
        print(error)
"""


def fetch(home: Path, endpoint: str, name: str = NAME, offline: bool = False) -> tuple[str, float]:
    """Fetch a model in a process of its own; give what is there afterwards, and the seconds that it took."""
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": str(int(offline))}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FETCH), name],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip(), time.monotonic() - started


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that stands for a model on the hub."""
    directory = tmp_path / "model"
    directory.mkdir()
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5"):
        (directory / name).write_text(f"content of {name}")
    return directory


@pytest.fixture
def hub(model: Path) -> Iterator[str]:
    """A server that gives the files of the model as the hub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, headers = b"", {"X-Repo-Commit": "a" * 40}
            known = self.path.startswith((f"/api/models/{NAME}", f"/{NAME}/"))
            if not known:
                headers["X-Error-Code"] = "RepoNotFound"
            elif "/tree/" in self.path:
                files = [{"path": file.name, "size": file.stat().st_size} for file in model.iterdir()]
                content = json.dumps([{"type": "file", "oid": "0" * 40} | file for file in files]).encode()
            elif self.path.startswith("/api/"):
                siblings = [{"rfilename": file.name} for file in model.iterdir()]
                content = json.dumps({"id": NAME, "sha": "a" * 40, "siblings": siblings}).encode()
            else:
                content = (model / self.path.rsplit("/", 1)[1]).read_bytes()
                headers["ETag"] = f'"{hashlib.sha256(content).hexdigest()}"'
            self.send_response(200 if known else 404)
            for name, value in (headers | {"Content-Length": str(len(content))}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_model_is_fetched_and_is_there_afterwards_without_a_network(tmp_path: Path, hub: str) -> None:
    expected = "config.json: content of config.json, model.safetensors: content of model.safetensors"
    assert fetch(tmp_path / "home", hub)[0] == expected
    assert fetch(tmp_path / "home", hub, offline=True)[0] == expected
    assert fetch(tmp_path / "home", NOWHERE)[0] == expected


def test_pickled_weights_are_fetched_where_there_are_no_others(tmp_path: Path, hub: str, model: Path) -> None:
    (model / "model.safetensors").unlink()
    expected = "config.json: content of config.json, pytorch_model.bin: content of pytorch_model.bin"
    assert fetch(tmp_path / "home", hub)[0] == expected


def test_name_that_the_hub_does_not_know_is_refused(tmp_path: Path, hub: str) -> None:
    said, _ = fetch(tmp_path / "home", hub, "someone/nothing")
    assert said.startswith("There is neither a directory someone/nothing here nor a model of this name on the hub")


def test_hub_out_of_reach_or_silent_is_said_so_soon_with_the_way_to_go_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it takes connections, and never answers
        for endpoint in (NOWHERE, f"http://127.0.0.1:{silent.getsockname()[1]}"):
            said, seconds = fetch(tmp_path / "home", endpoint)
            assert "the hub is out of reach or turned off (HF_HUB_OFFLINE)" in said
            assert f"run `hf download {NAME} --local-dir DIR` where there is a network, and pass DIR" in said
            assert seconds < 20


def test_hub_that_is_turned_off_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    started = time.monotonic()
    with pytest.raises(MimiaError, match=r"no directory someone/some-mae here, the hub is out of reach or turned off"):
        load_checkpoint(NAME)
    assert time.monotonic() - started < 5
