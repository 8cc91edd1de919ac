"""Uploads to a local server that answers as the hub does."""

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

from lep import hub as hub_module
from lep.errors import CheckpointError, EndpointError, UsageError
from lep.hub import check_license_naming, push_to_hub
from lep.io.model_card import REQUIRED_NAME_PREFIX_KEY


class HubHandler(BaseHTTPRequestHandler):
    """Accepts every model as one commit; refuses everything if the server's status is not 200."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server: Any = self.server
        server.requests.append((self.path, self.headers.get("Authorization"), body))
        response: dict[str, Any] = {"warnings": [], "errors": []}
        if self.path.endswith("/preupload/main"):
            files = json.loads(body)["files"]
            response = {
                "files": [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files]
            }
        elif self.path == "/api/repos/create":
            response = {"url": f"{server.url}/me/model"}
        elif "/commit/" in self.path:
            response = {"commitUrl": f"{server.url}/me/model/commit/abc", "commitOid": "abc"}
        data = json.dumps({"error": "not yours"} if server.status != 200 else response).encode()
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
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), HubHandler)
    server.requests, server.status, server.url = [], 200, f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def model(make_model: Callable, tokenizers: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy model with a card, and an access token."""
    monkeypatch.setenv("HF_TOKEN", "hf_key")
    folder = make_model(tmp_path / "model", tokenizers["byte_level"])
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


@pytest.fixture
def at(hub: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """`at(url)`: use the hub at this URL in this process."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return lambda url: monkeypatch.setattr(hub_module, "HfApi", partial(HfApi, endpoint=url))


def test_the_command_uploads_although_lep_is_offline_otherwise(model: Path, hub: Any) -> None:
    """One commit to a private repository, without the files of lep itself."""
    (model / "training.jsonl").write_text("{}")
    environment = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    process = subprocess.run(
        [sys.executable, "-m", "lep.cli.main", "push", model, "me/model"],
        env=environment | {"HF_ENDPOINT": hub.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{model} → {hub.url}/me/model\n"
    requests = {path: (token, body) for path, token, body in hub.requests}
    assert json.loads(requests["/api/repos/create"][1])["visibility"] == "private"
    token, body = requests["/api/models/me/model/commit/main"]
    rows = [json.loads(line) for line in body.splitlines()]
    files = {row["value"]["path"]: row["value"]["content"] for row in rows if row["key"] == "file"}
    expected = {file.name for file in model.iterdir() if file.name != "training.jsonl"}
    assert set(files) == expected and token == "Bearer hf_key"
    assert base64.b64decode(files["config.json"]) == (model / "config.json").read_bytes()


def test_a_new_repository_can_be_public(model: Path, hub: Any, at: Callable) -> None:
    at(hub.url)
    assert push_to_hub(model, "me/model", public=True) == f"{hub.url}/me/model"
    assert any(
        path == "/api/repos/create" and json.loads(body)["visibility"] == "public" for path, _, body in hub.requests
    )


def test_a_refusal_is_an_error_with_a_remedy(model: Path, hub: Any, at: Callable) -> None:
    at(hub.url)
    hub.status = 401
    with pytest.raises(
        EndpointError, match=r"refuses me/model: not yours \(401\); the access token is missing or wrong"
    ):
        push_to_hub(model, "me/model")


def test_an_unreachable_hub(model: Path, at: Callable) -> None:
    at("http://127.0.0.1:9")
    with pytest.raises(EndpointError, match=r"127.0.0.1:9: the upload failed: .*the same command resumes it"):
        push_to_hub(model, "me/model")


def test_offline_mode_is_an_error(model: Path, hub: Any, at: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    at(hub.url)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UsageError, match="HF_HUB_OFFLINE is set, and an upload needs the network"):
        push_to_hub(model, "me/model")
    assert not hub.requests


def test_incomplete_models_are_not_uploaded(model: Path, hub: Any, at: Callable, monkeypatch) -> None:
    at(hub.url)
    with pytest.raises(UsageError, match="model: expected owner/name of a repository"):
        push_to_hub(model, "model")
    monkeypatch.setattr(hub_module, "get_token", lambda: None)
    with pytest.raises(UsageError, match="no access token for the hub: run `hf auth login`, or set HF_TOKEN"):
        push_to_hub(model, "me/model")
    monkeypatch.undo()
    monkeypatch.setenv("HF_TOKEN", "hf_key")
    (model / "README.md").rename(model / "other.md")
    with pytest.raises(UsageError, match=r"has no model card README.md; write one with `lep card`"):
        push_to_hub(model, "me/model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"vocab_size": 7}))
    with pytest.raises(CheckpointError, match=r"has problems and is not uploaded:\n  .*vocab_size"):
        push_to_hub(model, "me/model")
    assert not hub.requests


@pytest.mark.parametrize(
    ("repo_id", "allowed"), [("me/Llama-3-ru", True), ("me/llama_3.1", True), ("me/ru-llama-3", False)]
)
def test_the_license_of_a_parent_can_require_a_name(repo_id: str, allowed: bool, tmp_path: Path) -> None:
    assert check_license_naming(tmp_path, repo_id) is None
    (tmp_path / "README.md").write_text(f"---\n{REQUIRED_NAME_PREFIX_KEY}: Llama 3\n---\nMy own words.")
    remark = check_license_naming(tmp_path, repo_id) or ""
    assert ("a name that begins with 'Llama 3', and ru-llama-3 does not" in remark) != allowed


def test_the_text_of_a_card_requires_no_name(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("You must begin the model's name with “Llama 3”.")
    assert check_license_naming(tmp_path, "me/ru-llama-3") is None
