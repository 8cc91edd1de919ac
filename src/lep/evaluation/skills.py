"""Greedy answers to items, and the accuracy of those that can be checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.core.metrics import accuracy
from lep.errors import TokenizerError
from lep.modeling.generation import Answer, generate
from lep.progress import progress

BATCH = 32

SHOWN = 2
"""Items of each skill, and openings, whose answers are shown side by side."""


def answer_items(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, Any]]
) -> list[Answer]:
    """Answers to chat items, in their order. An answer may be twice as long as the expected one, and a little more.

    Raises:
        TokenizerError: the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise TokenizerError(
            f"{tokenizer.name_or_path}: no chat template to ask the items of `skills` with; put the model's into "
            "chat_template.jinja there, or evaluate it without skills"
        )
    prompts = [
        str(tokenizer.apply_chat_template(item["prompt"], tokenize=False, add_generation_prompt=True)) for item in items
    ]
    room = [2 * len(tokenizer(expected(item))["input_ids"]) + 8 for item in items]
    order = sorted(range(len(items)), key=lambda i: room[i])
    answers: dict[int, Answer] = {}
    with progress("answering", total=len(items), unit="items") as advance:
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            found = generate(model, tokenizer, [prompts[i] for i in batch], longest=max(room[i] for i in batch))
            answers |= dict(zip(batch, found, strict=True))
            advance(len(batch))
    return [answers[i] for i in range(len(items))]


def expected(item: Mapping[str, Any]) -> str:
    """The right answer of an item."""
    return item["completion"][-1]["content"]


def score(items: Sequence[Mapping[str, Any]], answers: Sequence[Answer]) -> dict[str, dict[str, float]]:
    """Accuracy by skill and over all (`all`): an answer is right when it equals the expected one, outer space aside."""
    right: dict[str, list[bool]] = {"all": []}
    for item, answer in zip(items, answers, strict=True):
        is_right = answer.text.strip() == expected(item).strip()
        right["all"].append(is_right)
        right.setdefault(str(item["skill"]), []).append(is_right)
    return {skill: asdict(accuracy(sum(marks), len(marks))) for skill, marks in right.items()}


def side_by_side(items: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """The first items of each skill with every model's answer."""
    shown: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        if len(shown.setdefault(str(item["skill"]), [])) < SHOWN:
            shown[str(item["skill"])].append(i)
    return [
        {
            "skill": skill,
            "prompt": items[i]["prompt"][-1]["content"],
            "expected": expected(items[i]),
            "answers": {name: found[i] for name, found in answers.items()},
        }
        for skill, places in shown.items()
        for i in places
    ]
