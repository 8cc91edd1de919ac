"""Publishing, to a hub that this test is."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import huggingface_hub.constants
import pytest
from huggingface_hub import HfApi

from lep import hub as publishing
from lep.errors import CheckpointError, EndpointError, UsageError
from lep.hub import name_remark, push


class Hub(BaseHTTPRequestHandler):
    """Takes any model as one commit; refuses whom its server does not know."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization"), body))
        found: dict[str, Any] = {"warnings": [], "errors": []}
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            found = {"files": [{"path": it["path"], "uploadMode": "regular", "shouldIgnore": False} for it in files]}
        elif self.path == "/api/repos/create":
            found = {"url": f"{server.url}/me/model"}
        elif "/commit/" in self.path:
            found = {"commitUrl": f"{server.url}/me/model/commit/abc", "commitOid": "abc"}
        data = json.dumps({"error": "not yours"} if server.status != 200 else found).encode()
        self.send_response(server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = answer

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.asked, server.status, server.url = [], 200, f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model(make_model: Callable, tokenizers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy model with a card; a key is there."""
    monkeypatch.setenv("HF_TOKEN", "hf_key")
    folder = make_model(tmp_path / "model", tokenizers["byte_level"])
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


@pytest.fixture
def at(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`at(url)`: where the hub is, in this process."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return lambda url: monkeypatch.setattr(publishing, "HfApi", partial(HfApi, endpoint=url))


def test_the_command_publishes_though_the_network_is_off_elsewhere(model: Path, hub: Any) -> None:
    """All that others need, one commit, to a private repository; not what is lep's own."""
    (model / "training.jsonl").write_text("{}")
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [sys.executable, "-m", "lep.cli.main", "push", model, "me/model"],
        env=environment | {"HF_ENDPOINT": hub.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{model} → {hub.url}/me/model\n"
    asked = {path: (key, body) for path, key, body in hub.asked}
    assert json.loads(asked["/api/repos/create"][1])["visibility"] == "private"
    key, body = asked["/api/models/me/model/commit/main"]
    rows = [json.loads(line) for line in body.splitlines()]
    files = {row["value"]["path"]: row["value"]["content"] for row in rows if row["key"] == "file"}
    expected = {file.name for file in model.iterdir() if file.name != "training.jsonl"}
    assert set(files) == expected and key == "Bearer hf_key"
    assert base64.b64decode(files["config.json"]) == (model / "config.json").read_bytes()


def test_a_new_repository_can_be_public(model: Path, hub: Any, at: Callable) -> None:
    at(hub.url)
    assert push(model, "me/model", public=True) == f"{hub.url}/me/model"
    assert any(
        path == "/api/repos/create" and json.loads(body)["visibility"] == "public" for path, _, body in hub.asked
    )


def test_a_hub_that_refuses_is_told_with_a_remedy(model: Path, hub: Any, at: Callable) -> None:
    at(hub.url)
    hub.status = 401
    with pytest.raises(EndpointError, match=r"refuses me/model: not yours \(401\); the key is missing or wrong"):
        push(model, "me/model")


def test_a_hub_that_is_not_there(model: Path, at: Callable) -> None:
    at("http://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"127.0.0.1:9: the upload broke off: .*the same command goes on"):
        push(model, "me/model")


def test_a_network_that_is_off_is_told(model: Path, hub: Any, at: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    at(hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and publishing needs the network"):
        push(model, "me/model")
    assert not hub.asked


def test_what_is_not_ready_is_not_published(model: Path, hub: Any, at: Callable, monkeypatch) -> None:
    at(hub.url)
    with pytest.raises(UsageError, match="model: expected owner/name of a repository"):
        push(model, "model")
    monkeypatch.setattr(publishing, "get_token", lambda: None)
    with pytest.raises(UsageError, match="no key of the hub: `hf auth login`, or set HF_TOKEN"):
        push(model, "me/model")
    monkeypatch.undo()
    monkeypatch.setenv("HF_TOKEN", "hf_key")
    (model / "README.md").rename(model / "other.md")
    with pytest.raises(UsageError, match=r"has no README.md, .*: `lep card` writes one"):
        push(model, "me/model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))
    with pytest.raises(CheckpointError, match=r"not healthy, so it is not published:\n  .*vocab_size"):
        push(model, "me/model")
    assert not hub.asked


@pytest.mark.parametrize(
    ("repository", "fits"), [("me/Llama-3-ru", True), ("me/llama_3.1", True), ("me/ru-llama-3", False)]
)
def test_a_name_that_a_licence_forbids_is_told(repository: str, fits: bool, tmp_path: Path) -> None:
    assert name_remark(tmp_path, repository) is None
    (tmp_path / "README.md").write_text("You must begin the model's name with “Llama 3”.")
    assert name_remark(tmp_path, "me/Llama-3-ru") is None and name_remark(tmp_path, "me/llama_3.1") is None
    assert "a name that begins with 'Llama 3', and ru-llama-3 does not" in str(name_remark(tmp_path, "me/ru-llama-3"))
