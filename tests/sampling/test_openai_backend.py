"""A real server answers as the model itself does; whatever it refuses is told, and its death costs no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lep.config import Endpoint
from lep.errors import EndpointError, UsageError
from lep.modeling.generation import Answer
from lep.sampling import openai_backend as endpoint
from lep.sampling.backends import Asked, Decoding, Keep, Local, Messages, NoAnswer, answer_all
from lep.sampling.openai_backend import Served

GREEDY = Decoding(longest=6)
KEY = "sk-secret"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture(scope="module")
def folder(make_model, tokenizers, tmp_path_factory) -> Path:
    """A model whose template refuses system turns and adds nothing; by its own settings, it samples."""
    folder = make_model(tmp_path_factory.mktemp("endpoint") / "model", tokenizers["byte_level"], tied=False)
    refusal = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system turns') }}{% endif %}"
    (folder / "chat_template.jinja").write_text(refusal + "{{ messages[0]['content'] }}")
    generation = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps(generation | {"do_sample": True, "temperature": 0.7}))
    return folder


@pytest.fixture(scope="module")
def prompts(texts) -> list[tuple[Messages, str]]:
    return [([{"role": "user", "content": texts["en"][i][: 9 + i]}], f"prompts.jsonl:{i + 1}") for i in range(8)]


def ask(who: Any, prompts: Sequence[tuple[Messages, str]], file: Path, **more: Any) -> list[list[Answer | NoAnswer]]:
    return answer_all(who, prompts, file=file, label="answering", **{"decoding": GREEDY, **more})


def test_a_server_says_what_the_model_says(server, folder, prompts, tmp_path) -> None:
    served = ask(Served(Endpoint(url=server.url, model=str(folder))), prompts, tmp_path / "a")
    assert served == ask(Local(folder, "float32"), prompts, tmp_path / "b")
    assert len({answers[0] for answers in served}) > len(prompts) / 2


def test_sampled_candidates_differ(server, folder, prompts, tmp_path) -> None:
    who = Served(Endpoint(url=server.url, model=str(folder), requests=1))
    sampled = Decoding(longest=6, temperature=1.5, seed=1)
    found = ask(who, prompts[:2], tmp_path / "a", decoding=sampled, candidates=2)
    assert all(len({answer.text for answer in answers}) == 2 for answers in found)


def test_a_server_that_dies_costs_no_answer(server, folder, prompts, tmp_path) -> None:
    who = Served(Endpoint(url=server.url, model=str(folder), requests=2))
    unbroken = ask(who, prompts, tmp_path / "a")

    class Dying(Served):
        def answer(self, asked: Sequence[Asked], *, decoding: Decoding, done: Any, keep: Keep) -> None:
            def keep_and_kill(one: Asked, said: Answer | NoAnswer) -> None:
                keep(one, said)
                if one.row == 3:
                    server.kill()

            super().answer(asked, decoding=decoding, done=done, keep=keep_and_kill)

    with pytest.raises(EndpointError) as told:
        ask(Dying(who.endpoint), prompts, tmp_path / "b")
    kept = len((tmp_path / "b").read_text().splitlines())
    assert 4 <= kept <= 5
    assert str(told.value).startswith(f"{server.url}, model {str(folder)!r}: does not answer (")
    assert f"{kept} of 8 answers are kept, and the same command goes on after them" in str(told.value)
    with pytest.raises(EndpointError, match="is the server up, and the address right"):
        ask(who, prompts, tmp_path / "b")
    server.start()
    assert ask(who, prompts, tmp_path / "b") == unbroken
    assert len((tmp_path / "b").read_text().splitlines()) == 8


def test_a_prompt_that_the_server_refuses_is_no_reason_to_stop(server, folder, prompts, tmp_path) -> None:
    system: Messages = [{"role": "system", "content": "Be brief."}, *prompts[0][0]]
    who = Served(Endpoint(url=server.url, model=str(folder)))
    found = ask(who, [(system, "p:1"), *prompts[:2]], tmp_path / "a")
    assert found[0] == [NoAnswer("HTTP 500: Internal Server Error")]
    assert all(isinstance(answers[0], Answer) for answers in found[1:])


def test_what_no_prompt_would_change_stops_the_work(server, folder, prompts, tmp_path) -> None:
    def refuse(message: str, **changes: Any) -> None:
        values = {"url": server.url, "model": str(folder)} | changes
        with pytest.raises(EndpointError, match=message):
            ask(Served(Endpoint(**values)), prompts, tmp_path / "a")

    refuse(r"HTTP 404: .*Not Found.*mostly in /v1, and .* under this name\?$", url=server.url.removesuffix("/v1"))
    refuse("model '/no/such/model': HTTP 500", model="/no/such/model")
    refuse("does not answer", url="http://127.0.0.1:9/v1")
    refuse("does not answer", url="localhost")
    with pytest.raises(ValueError, match="Port could not be cast to integer value as '80a0'"):
        Endpoint(url="http://localhost:80a0/v1", model="m")


class Handler(BaseHTTPRequestHandler):
    """Knows one key; says the key that it is given. Elsewhere than under /v1 it has a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        given = self.headers["authorization"].removeprefix("Bearer ")
        said = {"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}]}
        code, body = self.server.answers[given != KEY]  # pyright: ignore[reportAttributeAccessIssue]
        text = json.dumps(said if body is None else {"error": {"message": f"{body} {given}"}})
        kind = "application/json"
        if not self.path.startswith("/v1/"):
            kind, text = "text/html", "<h1>Welcome</h1>"
        self.send_response(code)
        self.send_header("content-type", kind)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def locked() -> Iterator[ThreadingHTTPServer]:
    """A server behind a key, for what `transformers serve` has none of; `answers`: with the key, and without."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.answers = [(200, None), (401, "wrong key")]  # pyright: ignore[reportAttributeAccessIssue]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_the_key_comes_from_the_variable_and_goes_nowhere(locked, prompts, tmp_path, monkeypatch) -> None:
    settings = Endpoint(url=f"http://127.0.0.1:{locked.server_port}/v1", model="m", key_variable="MY_KEY")
    with pytest.raises(EndpointError, match=r"wants a key \(HTTP 401\); MY_KEY is not set"):
        ask(Served(settings), prompts, tmp_path / "a")
    monkeypatch.setenv("MY_KEY", "sk-other")
    with pytest.raises(EndpointError, match="MY_KEY is set to something else than it wants") as told:
        ask(Served(settings), prompts, tmp_path / "a")
    assert "sk-other" not in str(told.value)
    monkeypatch.setenv("MY_KEY", KEY)
    assert ask(Served(settings), prompts, tmp_path / "a") == [[Answer("", 0)]] * 8
    locked.answers[0] = (429, "too many of")
    with pytest.raises(EndpointError, match=r"HTTP 429: .*too many of ….*lower endpoint.requests, or wait") as told:
        ask(Served(settings), prompts, tmp_path / "b")
    assert all(KEY not in words for words in (str(told.value), repr(settings), (tmp_path / "a").read_text()))


def test_what_is_no_endpoint_is_named(locked, prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    settings = Endpoint(url=f"http://127.0.0.1:{locked.server_port}", model="m", key_variable="MY_KEY")
    with pytest.raises(EndpointError, match=r"has no choices; is this an OpenAI-compatible server\?"):
        ask(Served(settings), prompts, tmp_path / "a")


def test_without_the_package_it_is_named(prompts, tmp_path, without) -> None:
    without("openai")
    with pytest.raises(UsageError, match=r"an endpoint needs openai>=[\d.]+: pip install 'lep\[serve\]'"):
        ask(Served(Endpoint(url="http://127.0.0.1:9/v1", model="m")), prompts, tmp_path / "a")
