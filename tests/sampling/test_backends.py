"""Answers are written down as they come: whatever ends the work, it goes on to the same answers."""

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
from lep.modeling.generation import Answer
from lep.sampling import backends as answering
from lep.sampling.backends import Asked, Decoding, Keep, Local, Messages, NoAnswer, Vllm, answer_all

GREEDY, SAMPLED = Decoding(longest=6), Decoding(longest=6, temperature=1.0, seed=3)


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


class Broken(Exception):
    pass


class Parrot:
    """Says the prompt again; breaks down after so many answers."""

    def __init__(self, limit: int = 1000, error: Exception | None = None) -> None:
        self.limit, self.error, self.asked = limit, error or Broken(), list[tuple[int, int]]()

    def answer(
        self, asked: Sequence[Asked], *, decoding: Decoding, done: Collection[tuple[int, int]], keep: Keep
    ) -> None:
        for one in asked:
            if one.key in done:
                continue
            if len(self.asked) == self.limit:
                raise self.error
            self.asked.append(one.key)
            keep(one, Answer(one.messages[-1]["content"], one.candidate))


def ask(who: Any, prompts: Sequence[tuple[Messages, str]], file: Path, **more: Any) -> list[list[Answer | NoAnswer]]:
    return answer_all(who, prompts, file=file, label="answering", **{"decoding": GREEDY, **more})


def test_answers_come_by_prompt_and_candidate(prompts, tmp_path) -> None:
    found = ask(Parrot(), prompts, tmp_path / "a", candidates=2)
    assert found == [[Answer(messages[0]["content"], n) for n in (0, 1)] for messages, _ in prompts]


def test_what_is_written_is_not_asked_again(prompts, tmp_path) -> None:
    file = tmp_path / "a"
    with pytest.raises(Broken):
        ask(Parrot(limit=7), prompts, file, candidates=2)
    assert len(file.read_text().splitlines()) == 7
    with file.open("ab") as stream:
        stream.write('{"row": 3, "candidate": 1, "text": "Оборв'.encode()[:-1])
    second = Parrot()
    assert ask(second, prompts, file, candidates=2) == ask(Parrot(), prompts, tmp_path / "b", candidates=2)
    assert len(second.asked) == 13 and (3, 1) in second.asked
    assert file.read_bytes() == (tmp_path / "b").read_bytes()
    assert ask(Parrot(limit=0), prompts, file, candidates=2) == ask(Parrot(), prompts, tmp_path / "b", candidates=2)


def test_why_there_is_no_answer_is_kept(prompts, tmp_path) -> None:
    class Silent(Parrot):
        def answer(self, asked: Any, *, decoding: Any, done: Any, keep: Keep) -> None:
            for one in asked:
                keep(one, NoAnswer("tired"))

    assert ask(Silent(), prompts, tmp_path / "a")[4] == [NoAnswer("tired")]
    assert ask(Parrot(limit=0), prompts, tmp_path / "a")[4] == [NoAnswer("tired")]


def test_an_error_tells_how_much_is_kept(prompts, tmp_path) -> None:
    with pytest.raises(EndpointError, match=r"^it is down; 4 of 10 answers are kept, and the same command goes on"):
        ask(Parrot(limit=4, error=EndpointError("it is down")), prompts, tmp_path / "a")


def test_a_model_answers_through_its_template(folder, prompts, tmp_path) -> None:
    """Batched answers are those that each prompt gets alone."""
    from lep.modeling.generation import generate
    from lep.modeling.loading import load_model, load_tokenizer

    model, tokenizer = load_model(folder, dtype="float32"), load_tokenizer(folder)
    found = ask(Local(folder, "float32", batch=3), prompts, tmp_path / "a")
    for (messages, _), answers in zip(prompts, found, strict=True):
        assert answers == generate(model, tokenizer, [f"<|im_start|>{messages[0]['content']}"], longest=6)
    assert len({answers[0] for answers in found}) > len(prompts) / 2


@pytest.mark.parametrize(("decoding", "candidates"), [(GREEDY, 1), (SAMPLED, 2)])
@pytest.mark.parametrize("limit", [1, 4])
def test_an_interruption_changes_no_answer(folder, prompts, tmp_path, monkeypatch, decoding, candidates, limit) -> None:
    """Broken off within a batch, and gone on with: all answers are those of unbroken work."""
    who = Local(folder, "float32", batch=3)
    unbroken = ask(who, prompts, tmp_path / "a", decoding=decoding, candidates=candidates)
    lines = (tmp_path / "a").read_text().splitlines(keepends=True)
    (tmp_path / "b").write_text("".join(lines[:limit]) + lines[limit][:9])
    batches = []
    generate = answering.generate
    monkeypatch.setattr(answering, "generate", lambda *given, **more: batches.append(1) or generate(*given, **more))
    assert ask(who, prompts, tmp_path / "b", decoding=decoding, candidates=candidates) == unbroken
    assert len(batches) == 4 * candidates - limit // 3
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_a_killed_process_leaves_what_it_wrote(folder, prompts, tmp_path) -> None:
    unbroken = ask(Local(folder, "float32", batch=2), prompts, tmp_path / "a")
    script = f"""
import os, signal
from pathlib import Path
from lep.sampling import backends as answering

generate, calls = answering.generate, []

def dying(*given, **more):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return generate(*given, **more)

answering.generate = dying
who = answering.Local(Path({str(folder)!r}), "float32", batch=2)
decoding = answering.Decoding(longest=6)
answering.answer_all(who, {prompts!r}, decoding=decoding, file=Path({str(tmp_path / "b")!r}), label="x")
"""
    killed = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len((tmp_path / "b").read_text().splitlines()) == 4
    assert ask(Local(folder, "float32", batch=2), prompts, tmp_path / "b") == unbroken
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


def test_candidates_differ_and_come_again(folder, prompts, tmp_path) -> None:
    who = Local(folder, "float32")
    found = ask(who, prompts, tmp_path / "a", decoding=SAMPLED, candidates=3)
    assert all(len({answer.text for answer in answers}) == 3 for answers in found)
    assert ask(who, prompts, tmp_path / "b", decoding=SAMPLED, candidates=3) == found
    other = Decoding(longest=6, temperature=1.0, seed=4)
    assert ask(who, prompts, tmp_path / "c", decoding=other, candidates=3) != found


def test_a_prompt_that_is_too_long_is_no_reason_to_stop(folder, prompts, texts, tmp_path) -> None:
    long: Messages = [{"role": "user", "content": " ".join(texts["en"][:100])}]
    found = ask(Local(folder, "float32"), [(long, "p:1"), *prompts[:2]], tmp_path / "a")
    assert found[0] == [NoAnswer("the prompt and the longest answer do not fit into the model's context")]
    assert all(isinstance(answers[0], Answer) for answers in found[1:])


def test_nothing_is_loaded_when_all_is_there(prompts, tmp_path) -> None:
    ask(Parrot(), prompts, tmp_path / "a")
    assert ask(Local(Path("no such folder"), "float32"), prompts, tmp_path / "a")


def test_a_model_without_a_template_cannot_be_asked(folder, prompts, tmp_path, make_model, tokenizers) -> None:
    bare = make_model(tmp_path / "bare", tokenizers["byte_level"])
    (bare / "chat_template.jinja").unlink()
    with pytest.raises(TokenizerError, match=r"no chat template to ask with; name an instruct model$"):
        ask(Local(bare, "float32"), prompts, tmp_path / "a")
    (bare / "chat_template.jinja").write_text("{{ raise_exception('no system turns') }}")
    with pytest.raises(DataError, match=r"^prompts.jsonl:1: the chat template of .*bare refuses.*\(no system turns\)"):
        ask(Local(bare, "float32"), prompts, tmp_path / "a")


def test_too_little_memory_names_the_knob(folder, prompts, tmp_path, monkeypatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(answering, "generate", full)
    with pytest.raises(UsageError, match=r"accelerator for 5 answers at once; lower calibrate.answer_batch"):
        ask(Local(folder, "float32", batch=5), prompts, tmp_path / "a")


def test_vllm_is_asked_for_only_where_it_is(prompts, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match="vLLM is not installed; install it, or say transformers"):
        ask(Vllm(tmp_path, "float32"), prompts, tmp_path / "a")


def test_lines_are_plain_json(prompts, tmp_path) -> None:
    ask(Parrot(), [([{"role": "user", "content": "Привет\n!"}], "p:1")], tmp_path / "a")
    assert (tmp_path / "a").read_text(encoding="utf-8") == (
        '{"row": 0, "candidate": 0, "prompt": "bb3c2d0d029c", "text": "Привет\\n!", "tokens": 0, "cut": false}\n'
    )
    assert json.loads((tmp_path / "a").read_text(encoding="utf-8"))


def test_answers_to_other_prompts_are_not_taken(prompts, tmp_path) -> None:
    """As when a data set changed between two tries."""
    with pytest.raises(Broken):
        ask(Parrot(limit=3), prompts, tmp_path / "a")
    with pytest.raises(DataError, match=r"a:1: answers another prompt than number 1 is now; bring back the prompts"):
        ask(Parrot(), list(reversed(prompts)), tmp_path / "a")


@pytest.mark.parametrize(
    "line", ["{", "3", '{"row": 0, "candidate": 0}', '{"row": 0, "candidate": 0, "prompt": "x", "y": 1}']
)
def test_a_damaged_line_is_named(prompts, tmp_path, line) -> None:
    (tmp_path / "a").write_text(line + "\n")
    with pytest.raises(DataError, match=r"a:1: not an answer as it was written; remove the line"):
        ask(Parrot(), prompts, tmp_path / "a")
