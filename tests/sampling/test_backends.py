"""Answers are stored as they come, and a resumed run ends with the same ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.errors import DataError, EndpointError, TokenizerError, UsageError
from lep.modeling import generation
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import (
    DecodingConfig,
    Failure,
    Messages,
    OnResult,
    Request,
    TransformersBackend,
    VLLMBackend,
    complete_all,
)

GREEDY, SAMPLED = DecodingConfig(max_new_tokens=6), DecodingConfig(max_new_tokens=6, temperature=1.0, seed=3)


@pytest.fixture(scope="module")
def folder(make_model, tokenizers, tmp_path_factory) -> Path:
    """A model whose template ends on the question, so that it says something of its own to each."""
    folder = make_model(tmp_path_factory.mktemp("answering") / "model", tokenizers["byte_level"], tied=False)
    (folder / "chat_template.jinja").write_text("<|im_start|>{{ messages[0]['content'] }}")
    return folder


@pytest.fixture(scope="module")
def prompts(texts) -> list[tuple[Messages, str]]:
    """Ten, of different lengths."""
    return [([{"role": "user", "content": texts["en"][i][: 4 + 3 * i]}], f"prompts.jsonl:{i + 1}") for i in range(10)]


class InterruptedRun(Exception):
    pass


class EchoBackend:
    """Says the prompt again; breaks down after so many answers."""

    def __init__(self, limit: int = 1000, error: Exception | None = None) -> None:
        self.limit, self.error, self.completed = limit, error or InterruptedRun(), list[tuple[int, int]]()

    def complete(
        self,
        requests: Sequence[Request],
        *,
        decoding: DecodingConfig,
        done_keys: Collection[tuple[int, int]],
        on_result: OnResult,
    ) -> None:
        for request in requests:
            if request.key in done_keys:
                continue
            if len(self.completed) == self.limit:
                raise self.error
            self.completed.append(request.key)
            on_result(request, GeneratedText(request.messages[-1]["content"], request.candidate_index))


def complete(
    backend: Any, prompts: Sequence[tuple[Messages, str]], file: Path, **options: Any
) -> list[list[GeneratedText | Failure]]:
    return complete_all(backend, prompts, file=file, label="answering", **{"decoding": GREEDY, **options})


def test_answerscome_by_prompt_and_candidate(prompts, tmp_path) -> None:
    answers = complete(EchoBackend(), prompts, tmp_path / "a", num_candidates=2)
    assert answers == [[GeneratedText(messages[0]["content"], n) for n in (0, 1)] for messages, _ in prompts]


def test_stored_answersare_not_generated_again(prompts, tmp_path) -> None:
    file = tmp_path / "a"
    with pytest.raises(InterruptedRun):
        complete(EchoBackend(limit=7), prompts, file, num_candidates=2)
    assert len(file.read_text().splitlines()) == 7
    with file.open("ab") as stream:
        stream.write('{"prompt_index": 3, "candidate_index": 1, "text": "Оборв'.encode()[:-1])
    second = EchoBackend()
    assert complete(second, prompts, file, num_candidates=2) == complete(
        EchoBackend(), prompts, tmp_path / "b", num_candidates=2
    )
    assert len(second.completed) == 13 and (3, 1) in second.completed
    assert file.read_bytes() == (tmp_path / "b").read_bytes()
    assert complete(EchoBackend(limit=0), prompts, file, num_candidates=2) == complete(
        EchoBackend(), prompts, tmp_path / "b", num_candidates=2
    )


def test_the_reason_of_a_failure_is_stored(prompts, tmp_path) -> None:
    class FailingBackend(EchoBackend):
        def complete(self, requests: Any, *, decoding: Any, done_keys: Any, on_result: OnResult) -> None:
            for request in requests:
                on_result(request, Failure("tired"))

    assert complete(FailingBackend(), prompts, tmp_path / "a")[4] == [Failure("tired")]
    assert complete(EchoBackend(limit=0), prompts, tmp_path / "a")[4] == [Failure("tired")]


def test_an_error_says_how_many_answersare_kept(prompts, tmp_path) -> None:
    with pytest.raises(EndpointError, match=r"^it is down; 4 of 10 answers are kept, and the same command continues"):
        complete(EchoBackend(limit=4, error=EndpointError("it is down")), prompts, tmp_path / "a")


def test_a_model_answersthrough_its_template(folder, prompts, tmp_path) -> None:
    """Batched answers are those that each prompt gets alone."""
    from lep.modeling.generation import generate
    from lep.modeling.loading import load_model, load_tokenizer

    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    answers = complete(TransformersBackend(folder, "float32", batch_size=3), prompts, tmp_path / "a")
    for (messages, _), candidates in zip(prompts, answers, strict=True):
        assert candidates == generate(model, tokenizer, [f"<|im_start|>{messages[0]['content']}"], max_new_tokens=6)
    assert len({candidates[0] for candidates in answers}) > len(prompts) / 2


@pytest.mark.parametrize(("decoding", "candidates"), [(GREEDY, 1), (SAMPLED, 2)])
@pytest.mark.parametrize("limit", [1, 4])
def test_an_interruption_changes_no_answer(folder, prompts, tmp_path, monkeypatch, decoding, candidates, limit) -> None:
    """Broken off within a batch, and gone on with: all answers are those of unbroken work."""
    backend = TransformersBackend(folder, "float32", batch_size=3)
    unbroken = complete(backend, prompts, tmp_path / "a", decoding=decoding, num_candidates=candidates)
    lines = (tmp_path / "a").read_text().splitlines(keepends=True)
    (tmp_path / "b").write_text("".join(lines[:limit]) + lines[limit][:9])
    batches = []
    generate = generation.generate
    monkeypatch.setattr(
        generation, "generate", lambda *args, **options: batches.append(1) or generate(*args, **options)
    )
    assert complete(backend, prompts, tmp_path / "b", decoding=decoding, num_candidates=candidates) == unbroken
    assert len(batches) == 4 * candidates - limit // 3
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_killed_process_leaves_its_answers(folder, prompts, tmp_path) -> None:
    unbroken = complete(TransformersBackend(folder, "float32", batch_size=2), prompts, tmp_path / "a")
    script = f"""
import os, signal
from pathlib import Path
from lep.modeling import generation
from lep.sampling import backends

generate, calls = generation.generate, []

def dying(*args, **options):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return generate(*args, **options)

generation.generate = dying
backend = backends.TransformersBackend(Path({str(folder)!r}), "float32", batch_size=2)
decoding = backends.DecodingConfig(max_new_tokens=6)
backends.complete_all(backend, {prompts!r}, decoding=decoding, file=Path({str(tmp_path / "b")!r}), label="x")
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len((tmp_path / "b").read_text().splitlines()) == 4
    assert complete(TransformersBackend(folder, "float32", batch_size=2), prompts, tmp_path / "b") == unbroken
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_candidates_differ_and_are_reproducible(folder, prompts, tmp_path) -> None:
    backend = TransformersBackend(folder, "float32")
    answers = complete(backend, prompts, tmp_path / "a", decoding=SAMPLED, num_candidates=3)
    assert all(len({answer.text for answer in candidates}) == 3 for candidates in answers)
    assert complete(backend, prompts, tmp_path / "b", decoding=SAMPLED, num_candidates=3) == answers
    other = DecodingConfig(max_new_tokens=6, temperature=1.0, seed=4)
    assert complete(backend, prompts, tmp_path / "c", decoding=other, num_candidates=3) != answers


def test_a_too_long_prompt_is_a_failure_of_its_own(folder, prompts, texts, tmp_path) -> None:
    long: Messages = [{"role": "user", "content": " ".join(texts["en"][:100])}]
    answers = complete(TransformersBackend(folder, "float32"), [(long, "p:1"), *prompts[:2]], tmp_path / "a")
    assert answers[0] == [Failure("the prompt and the longest answer do not fit into the model's context")]
    assert all(isinstance(candidates[0], GeneratedText) for candidates in answers[1:])


def test_nothing_is_loaded_if_all_answersare_stored(prompts, tmp_path) -> None:
    complete(EchoBackend(), prompts, tmp_path / "a")
    assert complete(TransformersBackend(Path("no such folder"), "float32"), prompts, tmp_path / "a")


def test_a_model_without_a_usable_template_is_named(folder, prompts, tmp_path, make_model, tokenizers) -> None:
    bare = make_model(tmp_path / "bare", tokenizers["byte_level"])
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(TokenizerError, match=r"the tokenizer has no chat template; name an instruct model$"):
        complete(TransformersBackend(bare, "float32"), prompts, tmp_path / "a")
    (bare / "chat_template.jinja").write_text("{{ raise_exception('no system turns') }}")
    with pytest.raises(
        DataError, match=r"^prompts.jsonl:1: the chat template of .*bare refuses.*\(TemplateError: no system turns\)"
    ):
        complete(TransformersBackend(bare, "float32"), prompts, tmp_path / "a")


def test_too_little_memory_names_the_setting(folder, prompts, tmp_path, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(generation, "generate", full)
    with pytest.raises(
        UsageError, match=r"accelerator to continue 5 prompts at once; lower calibrate.generation_batch_size"
    ):
        complete(TransformersBackend(folder, "float32", batch_size=5), prompts, tmp_path / "a")


def test_a_missing_vllm_is_named(prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match="vLLM is not installed; install it, or give backend=transformers"):
        complete(VLLMBackend(tmp_path, "float32"), prompts, tmp_path / "a")


def test_lines_are_plain_json(prompts, tmp_path) -> None:
    complete(EchoBackend(), [([{"role": "user", "content": "Привет\n!"}], "p:1")], tmp_path / "a")
    assert (tmp_path / "a").read_text(encoding="utf-8") == (
        '{"prompt_index": 0, "candidate_index": 0, "prompt_hash": "bb3c2d0d029c", "text": "Привет\\n!", "tokens": 0, '
        '"truncated": false}\n'
    )
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8"))


def test_answersto_other_prompts_are_refused(prompts, tmp_path) -> None:
    """As when a data set changed between two tries."""
    with pytest.raises(InterruptedRun):
        complete(EchoBackend(limit=3), prompts, tmp_path / "a")
    with pytest.raises(DataError, match=r"a:1: answers another prompt than the present number 1; restore the prompts"):
        complete(EchoBackend(), list(reversed(prompts)), tmp_path / "a")


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "3",
        '{"prompt_index": 0, "candidate_index": 0}',
        '{"prompt_index": 0, "candidate_index": 0, "prompt_hash": "x", "y": 1}',
    ],
)
def test_a_damaged_line_is_named(prompts, tmp_path, line) -> None:
    (tmp_path / "a").write_text(line + "\n")
    with pytest.raises(DataError, match=r"a:1: not an answer that lep wrote; remove the line"):
        complete(EchoBackend(), prompts, tmp_path / "a")
