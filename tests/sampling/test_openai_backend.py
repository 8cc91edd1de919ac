"""A real server gives the answers of its model; refusals are explained, and its death costs no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lep.errors import EndpointError, UsageError
from lep.results.evaluation import GeneratedText
from lep.sampling import openai_backend
from lep.sampling.backends import (
    DecodingConfig,
    Failure,
    Messages,
    OnResult,
    Request,
    TransformersBackend,
    complete_all,
)
from lep.sampling.openai_backend import OpenAIBackend

GREEDY = DecodingConfig(max_new_tokens=6)
KEY = "sk-secret"


@pytest.fixture(autouse=True)
def few_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_backend, "MAX_RETRIES", 1)
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


def complete_prompts(
    backend: Any, prompts: Sequence[tuple[Messages, str]], file: Path, **options: Any
) -> list[list[GeneratedText | Failure]]:
    return complete_all(backend, prompts, file=file, label="answering", **{"decoding": GREEDY, **options})


def test_a_server_answers_as_the_model(server, folder, prompts, tmp_path) -> None:
    served = complete_prompts(OpenAIBackend(server.url, str(folder)), prompts, tmp_path / "a")
    assert served == complete_prompts(TransformersBackend(folder, "float32"), prompts, tmp_path / "b")
    assert len({answers[0] for answers in served}) > len(prompts) / 2


def test_sampled_candidates_differ(server, folder, prompts, tmp_path) -> None:
    backend = OpenAIBackend(server.url, str(folder), max_concurrent_requests=1)
    sampled = DecodingConfig(max_new_tokens=6, temperature=1.5, seed=1)
    answers = complete_prompts(backend, prompts[:2], tmp_path / "a", decoding=sampled, num_candidates=2)
    assert all(len({answer.text for answer in candidates}) == 2 for candidates in answers)


def test_a_server_failure_loses_no_answer(server, folder, prompts, tmp_path) -> None:
    backend = OpenAIBackend(server.url, str(folder), max_concurrent_requests=2)
    unbroken = complete_prompts(backend, prompts, tmp_path / "a")

    class Dying(OpenAIBackend):
        def complete(
            self, requests: Sequence[Request], *, decoding: DecodingConfig, done_keys: Any, on_result: OnResult
        ) -> None:
            def keep_and_kill(request: Request, result: GeneratedText | Failure) -> None:
                on_result(request, result)
                if request.prompt_index == 3:
                    server.kill()

            super().complete(requests, decoding=decoding, done_keys=done_keys, on_result=keep_and_kill)

    with pytest.raises(EndpointError) as error:
        complete_prompts(Dying(backend.base_url, backend.model, max_concurrent_requests=2), prompts, tmp_path / "b")
    kept = len((tmp_path / "b").read_text().splitlines())
    assert 4 <= kept <= 5
    assert str(error.value).startswith(f"{server.url}, model {str(folder)!r}: does not answer (")
    assert f"{kept} of 8 answers are kept, and the same command continues after them" in str(error.value)
    with pytest.raises(EndpointError, match="is the server up, and base_url right"):
        complete_prompts(backend, prompts, tmp_path / "b")
    server.start()
    assert complete_prompts(backend, prompts, tmp_path / "b") == unbroken
    assert len((tmp_path / "b").read_text().splitlines()) == 8


def test_a_refused_prompt_is_a_failure_of_its_own(server, folder, prompts, tmp_path) -> None:
    system: Messages = [{"role": "system", "content": "Be brief."}, *prompts[0][0]]
    backend = OpenAIBackend(server.url, str(folder))
    answers = complete_prompts(backend, [(system, "p:1"), *prompts[:2]], tmp_path / "a")
    assert answers[0] == [Failure("HTTP 500: Internal Server Error")]
    assert all(isinstance(candidates[0], GeneratedText) for candidates in answers[1:])


def test_errors_that_no_prompt_would_change_end_the_run(server, folder, prompts, tmp_path) -> None:
    def refuse(message: str, **changes: Any) -> None:
        values = {"base_url": server.url, "model": str(folder)} | changes
        with pytest.raises(EndpointError, match=message):
            complete_prompts(OpenAIBackend(**values), prompts, tmp_path / "a")

    refuse(r"HTTP 404: .*Not Found.*usually in /v1, and .* under this name\?$", base_url=server.url.removesuffix("/v1"))
    refuse("model '/no/such/model': HTTP 500", model="/no/such/model")
    refuse("does not answer", base_url="http://127.0.0.1:9/v1")
    refuse("does not answer", base_url="localhost")


class Handler(BaseHTTPRequestHandler):
    """Knows one key; says the key that it is given. Elsewhere than under /v1 it has a page."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        api_key = self.headers["authorization"].removeprefix("Bearer ")
        success = {
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None}}]
        }
        code, body = self.server.answers[api_key != KEY]  # pyright: ignore[reportAttributeAccessIssue]
        text = json.dumps(success if body is None else {"error": {"message": f"{body} {api_key}"}})
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


def test_the_key_is_read_from_the_environment_and_stored_nowhere(locked, prompts, tmp_path, monkeypatch) -> None:
    backend = OpenAIBackend(f"http://127.0.0.1:{locked.server_port}/v1", "m", api_key_env="MY_KEY")
    with pytest.raises(EndpointError, match=r"requires an API key \(HTTP 401\); MY_KEY is not set"):
        complete_prompts(backend, prompts, tmp_path / "a")
    monkeypatch.setenv("MY_KEY", "sk-other")
    with pytest.raises(EndpointError, match="MY_KEY is set to a key that it refuses") as error:
        complete_prompts(backend, prompts, tmp_path / "a")
    assert "sk-other" not in str(error.value)
    monkeypatch.setenv("MY_KEY", KEY)
    assert complete_prompts(backend, prompts, tmp_path / "a") == [[GeneratedText("", 0)]] * 8
    locked.answers[0] = (429, "too many of")
    with pytest.raises(
        EndpointError, match=r"HTTP 429: .*too many of ….*lower max_concurrent_requests of the endpoint, or wait"
    ) as error:
        complete_prompts(backend, prompts, tmp_path / "b")
    assert all(KEY not in words for words in (str(error.value), repr(backend), (tmp_path / "a").read_text()))


def test_another_kind_of_server_is_named(locked, prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    backend = OpenAIBackend(f"http://127.0.0.1:{locked.server_port}", "m", api_key_env="MY_KEY")
    with pytest.raises(EndpointError, match=r"has no choices; is this an OpenAI-compatible server\?"):
        complete_prompts(backend, prompts, tmp_path / "a")


def test_a_missing_package_is_named(prompts, tmp_path, without) -> None:
    without("openai")
    with pytest.raises(UsageError, match=r"an endpoint needs openai>=[\d.]+: pip install 'lep\[serve\]'"):
        complete_prompts(OpenAIBackend("http://127.0.0.1:9/v1", "m"), prompts, tmp_path / "a")
