"""Samples stand in the order of training; packed ones teach what the same conversations teach alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config import Tuning
from lep.data.chat_template import render
from lep.data.conversations import Conversation, Message
from lep.data.packing import IGNORED
from lep.data.preferences import Preference, Verdict
from lep.data.sft_dataset import Lessons, in_order, instruction_lessons, preference_lessons
from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.training.finetuning import Packed


@pytest.fixture(scope="module")
def model(tokenizers, make_model, tmp_path_factory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("model") / "m", tokenizers["byte_level"], tied=False)
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    return folder


@pytest.fixture(scope="module")
def rows(texts) -> list[Conversation]:
    """Ten of one turn from `a`, and two of two turns from `b`."""
    found = []
    for i in range(12):
        turns = [texts["en"][i], texts["ru"][i][: 5 + 3 * i]] + (["more", texts["en"][i]] if i >= 10 else [])
        messages = tuple(Message(("user", "assistant")[k % 2], text) for k, text in enumerate(turns))
        found.append(Conversation(messages, f"data:{i + 1}", "a" if i < 10 else "b"))
    return found


def settings(model: Path, **changes: Any) -> Tuning:
    return Tuning.model_validate({"model": model, "batch_size": 4, "micro_batch_size": 2, "epochs": 2} | changes)


def lessons(rows: list[Conversation], wanted: Tuning, folder: Path) -> Lessons:
    return instruction_lessons(rows, load_tokenizer(wanted.model), settings=wanted, folder=folder)


def ids(sample: Any) -> tuple[int, ...]:
    return tuple(sample["input_ids"])


def test_each_pass_has_all_samples_in_an_order_of_its_own(model, rows, tmp_path) -> None:
    wanted = settings(model)
    found = lessons(rows, wanted, tmp_path)
    samples = [ids(sample) for sample in in_order(found, wanted)]
    first, second = samples[:12], samples[12:]
    assert found.steps == 6 and found.passes == 2
    assert len(set(first)) == 12 and set(first) == set(second) and first != second
    assert found.tokens == sum(map(len, samples)) == 2 * sum(part.tokens for part in found.parts.values())
    assert [ids(sample) for sample in in_order(found, wanted)] == samples
    other = in_order(found, settings(model, seed=1))
    assert [ids(sample) for sample in other] != samples


def test_what_carries_loss_is_told_by_source(model, rows, tmp_path) -> None:
    """All answers do, with what ends them, and nothing else."""
    wanted, tokenizer = settings(model, epochs=1), load_tokenizer(model)
    found = lessons(rows, wanted, tmp_path)
    numbers = found.numbers()
    assert {name: source["rows"] for name, source in numbers["sources"].items()} == {"a": 10, "b": 2}
    learnt = {"a": 0, "b": 0}
    for sample in in_order(found, wanted):
        answers = tokenizer.decode([label for label in sample["labels"] if label != IGNORED])
        row = next(row for row in rows if row.messages[0].content in tokenizer.decode(sample["input_ids"]))
        assert answers == "".join(f"{message.content}<|im_end|>\n" for message in row.messages[1::2])
        learnt[row.source] += sum(label != IGNORED for label in sample["labels"])
    assert {name: source["answer_tokens"] for name, source in numbers["sources"].items()} == learnt
    assert numbers["sources"]["b"]["share"] == pytest.approx(learnt["b"] / sum(learnt.values()))


@torch.no_grad()
def test_packed_samples_teach_what_conversations_teach_alone(model, rows, tmp_path) -> None:
    loaded, tokenizer = load_model(model, dtype="float32"), load_tokenizer(model)
    nats = {}
    for packing in (False, True):
        wanted = settings(model, epochs=1, batch_size=2, packing=packing, maximum_length=250)
        found = lessons(rows, wanted, tmp_path / str(packing))
        samples = list(in_order(found, wanted))
        batch = Packed(tokenizer)(samples) if packing else None
        nats[packing] = sum(
            float(loaded(**given, num_items_in_batch=1).loss)
            for given in ([batch] if batch else [_alone(sample) for sample in samples])
        )
        assert (len(samples) < 12) is packing
    assert nats[True] == pytest.approx(nats[False], rel=1e-5)


def _alone(sample: Any) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([sample["input_ids"]]), "labels": torch.tensor([sample["labels"]])}


def test_what_is_too_long_is_left_out_and_told(model, rows, tmp_path) -> None:
    longest = max(len(render(load_tokenizer(model), row).ids) for row in rows)
    found = lessons(rows, settings(model, maximum_length=longest - 1), tmp_path)
    assert sum(part.rows for part in found.parts.values()) == 11
    assert any("1 of 12 conversations are longer" in remark for remark in found.remarks)


def test_preferences_are_as_long_as_their_answers(model, texts, tmp_path) -> None:
    ask = (Message("user", "?"),)
    answers = [(Message("assistant", text),) for text in texts["en"][:9]]
    pairs = [Preference(ask, one, other, "p:1", "p") for one, other in pairwise(answers)]
    verdicts = [Verdict(ask, answer, i % 2 == 0, "v:1", "v") for i, answer in enumerate(answers[:8])]
    tokenizer, wanted = load_tokenizer(model), settings(model, epochs=1)
    by_pairs = preference_lessons(pairs, tokenizer, settings=wanted, folder=tmp_path / "p")
    by_verdicts = preference_lessons(verdicts, tokenizer, settings=wanted, folder=tmp_path / "v")
    assert (by_pairs.method, by_verdicts.method) == ("dpo", "kto")
    once = [_tokens(tokenizer, ask, answer) for answer in answers]
    assert by_pairs.tokens == sum(once[:-1]) + sum(once[1:]) and by_verdicts.tokens == sum(once[:-1])
    with pytest.raises(DataError, match="0 samples, times epochs=1, are less than one step"):
        preference_lessons(pairs, tokenizer, settings=settings(model, epochs=1, maximum_length=3), folder=tmp_path)


def _tokens(tokenizer: Any, ask: tuple[Message, ...], answer: tuple[Message, ...]) -> int:
    return len(render(tokenizer, Conversation((*ask, *answer), "p:1", "p")).ids)
