"""Samples are in the order of training; packed samples give the same loss as their conversations."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.data.chat_template import tokenize_conversation
from lep.data.conversations import Conversation, Message
from lep.data.packed_dataset import IGNORE_INDEX
from lep.data.preferences import LabeledAnswer, Preference
from lep.data.sft_dataset import (
    SampleSchedule,
    SFTDataset,
    build_preference_dataset,
    build_sft_dataset,
    load_training_samples,
)
from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.training.finetuning import PackedDataCollator

SCHEDULE = {"batch_size": 4, "epochs": 2.0, "seed": 0}


@pytest.fixture(scope="module")
def model(tokenizers, make_model, tmp_path_factory) -> Path:
    folder = make_model(tmp_path_factory.mktemp("model") / "m", tokenizers["byte_level"], tied=False)
    (folder / "generation_config.json").write_text('{"eos_token_id": [0, 2]}')
    return folder


@pytest.fixture(scope="module")
def rows(texts) -> list[Conversation]:
    """Ten of one turn from `a`, and two of two turns from `b`."""
    dataset = []
    for i in range(12):
        turns = [texts["en"][i], texts["ru"][i][: 5 + 3 * i]] + (["more", texts["en"][i]] if i >= 10 else [])
        messages = tuple(Message(("user", "assistant")[k % 2], text) for k, text in enumerate(turns))
        dataset.append(Conversation(messages, f"data:{i + 1}", "a" if i < 10 else "b"))
    return dataset


def build(rows: list[Conversation], model: Path, folder: Path, **changes: Any) -> SFTDataset:
    options = {"trainable_embeddings": "both", "max_length": 4096, "packing": False, "heldout_items": None, **changes}
    schedule = {name: options.pop(name, default) for name, default in SCHEDULE.items()}
    return build_sft_dataset(
        rows, load_tokenizer(model), model=model, schedule=SampleSchedule(**schedule), folder=folder, **options
    )


def ids(sample: Any) -> tuple[int, ...]:
    return tuple(sample["input_ids"])


def test_each_epoch_is_another_permutation_of_the_samples(model, rows, tmp_path) -> None:
    dataset = build(rows, model, tmp_path / "a")
    samples = [ids(sample) for sample in load_training_samples(dataset)]
    first, second = samples[:12], samples[12:]
    assert dataset.steps == 6 and dataset.epochs == 2
    assert len(set(first)) == 12 and set(first) == set(second) and first != second
    assert dataset.tokens == sum(map(len, samples)) == 2 * sum(part.tokens for part in dataset.sources.values())
    assert [ids(sample) for sample in load_training_samples(dataset)] == samples
    other = load_training_samples(build(rows, model, tmp_path / "b", seed=1))
    assert [ids(sample) for sample in other] != samples


def test_trained_tokens_are_counted_by_source(model, rows, tmp_path) -> None:
    """All answers do, with what ends them, and nothing else."""
    tokenizer, dataset = load_tokenizer(model), build(rows, model, tmp_path, epochs=1.0)
    assert {name: source.rows for name, source in dataset.sources.items()} == {"a": 10, "b": 2}
    trained_tokens = {"a": 0, "b": 0}
    for sample in load_training_samples(dataset):
        answers = tokenizer.decode([label for label in sample["labels"] if label != IGNORE_INDEX])
        row = next(row for row in rows if row.messages[0].content in tokenizer.decode(sample["input_ids"]))
        assert answers == "".join(f"{message.content}<|im_end|>\n" for message in row.messages[1::2])
        trained_tokens[row.source] += sum(label != IGNORE_INDEX for label in sample["labels"])
    assert {name: source.trained_tokens for name, source in dataset.sources.items()} == trained_tokens
    assert dataset.sources["b"].trained_fraction == pytest.approx(trained_tokens["b"] / sum(trained_tokens.values()))


@torch.no_grad()
def test_packed_samples_give_the_loss_of_their_conversations(model, rows, tmp_path) -> None:
    loaded, tokenizer = load_model(model, dtype="float32"), load_tokenizer(model)
    nats = {}
    for packing in (False, True):
        dataset = build(rows, model, tmp_path / str(packing), epochs=1.0, batch_size=2, packing=packing, max_length=250)
        samples = list(load_training_samples(dataset))
        batch = PackedDataCollator(tokenizer)(samples) if packing else None
        nats[packing] = sum(
            float(loaded(**inputs, num_items_in_batch=1).loss)
            for inputs in ([batch] if batch else [_alone(sample) for sample in samples])
        )
        assert (len(samples) < 12) is packing
    assert nats[True] == pytest.approx(nats[False], rel=1e-5)


def _alone(sample: Any) -> dict[str, torch.Tensor]:
    return {"input_ids": torch.tensor([sample["input_ids"]]), "labels": torch.tensor([sample["labels"]])}


def test_too_long_conversations_are_left_out_with_a_warning(model, rows, tmp_path) -> None:
    longest = max(len(tokenize_conversation(load_tokenizer(model), row).input_ids) for row in rows)
    dataset = build(rows, model, tmp_path, max_length=longest - 1)
    assert dataset.examples == 11
    assert any("1 of 12 conversations are longer" in remark for remark in dataset.warnings)


def test_the_tokens_of_preferences_are_those_of_all_answers(model, texts, tmp_path) -> None:
    ask = (Message("user", "?"),)
    answers = [(Message("assistant", text),) for text in texts["en"][:9]]
    pairs = [Preference(ask, chosen, other, "p:1", "p") for chosen, other in pairwise(answers)]
    labeled = [LabeledAnswer(ask, answer, i % 2 == 0, "v:1", "v") for i, answer in enumerate(answers[:8])]
    tokenizer = load_tokenizer(model)
    options = {"max_length": 4096, "schedule": SampleSchedule(**SCHEDULE | {"epochs": 1.0})}
    by_pairs = build_preference_dataset(pairs, tokenizer, folder=tmp_path / "p", **options)
    by_labels = build_preference_dataset(labeled, tokenizer, folder=tmp_path / "v", **options)
    assert (by_pairs.method, by_labels.method) == ("dpo", "kto")
    once = [_tokens(tokenizer, ask, answer) for answer in answers]
    assert by_pairs.tokens == sum(once[:-1]) + sum(once[1:]) and by_labels.tokens == sum(once[:-1])
    with pytest.raises(DataError, match="0 samples, times epochs=1, are less than one step"):
        build_preference_dataset(pairs, tokenizer, folder=tmp_path, **options | {"max_length": 3})


def _tokens(tokenizer: Any, ask: tuple[Message, ...], answer: tuple[Message, ...]) -> int:
    return len(tokenize_conversation(tokenizer, Conversation((*ask, *answer), "p:1", "p")).input_ids)
