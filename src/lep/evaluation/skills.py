"""Greedy answers to chat items, and the accuracy of each skill."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.core.metrics import compute_accuracy
from lep.data.chat_template import render_chat
from lep.errors import TokenizerError
from lep.modeling.generation import generate_all
from lep.results.evaluation import Accuracy, GeneratedText, ItemAnswers

BATCH_SIZE = 32

EXAMPLES_PER_GROUP = 2
"""Items of each skill, and continuations of each language, that are shown side by side."""


def answer_items(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, Any]]
) -> list[GeneratedText]:
    """Answer chat items greedily. An answer may have twice as many tokens as the expected one, and 8 more.

    Args:
        model: In evaluation mode.
        tokenizer: Of the model, with a chat template.
        items: Rows with `prompt` and `completion`; see `lep.data.eval_items`.

    Returns:
        The answers, in the order of the items.

    Raises:
        TokenizerError: The tokenizer has no chat template.
        DataError: The chat template refuses an item.
    """
    if not tokenizer.chat_template:
        raise TokenizerError(
            f"{tokenizer.name_or_path}: no chat template for the items of `skills`; put the template of the model into "
            "chat_template.jinja there, or evaluate the model without skills"
        )
    prompts = [
        render_chat(tokenizer, item["prompt"], add_generation_prompt=True, source=f"item {number} of `skills`")
        for number, item in enumerate(items, start=1)
    ]
    max_tokens = [2 * len(tokenizer(expected_answer(item))["input_ids"]) + 8 for item in items]
    return generate_all(
        model,
        tokenizer,
        prompts,
        max_new_tokens=max_tokens,
        batch_size=BATCH_SIZE,
        label="answering",
        unit="items",
    )


def expected_answer(item: Mapping[str, Any]) -> str:
    """Return the right answer of an item, its last message."""
    return item["completion"][-1]["content"]


def compute_skill_accuracy(items: Sequence[Mapping[str, Any]], answers: Sequence[GeneratedText]) -> dict[str, Accuracy]:
    """Compute the accuracy by skill and of all items (`all`).

    An answer is right if it equals the expected one, ignoring leading and trailing whitespace. See
    [Accuracy](docs/mathematics.md#accuracy).
    """
    correct: dict[str, list[bool]] = {"all": []}
    for item, answer in zip(items, answers, strict=True):
        is_correct = answer.text.strip() == expected_answer(item).strip()
        correct["all"].append(is_correct)
        correct.setdefault(str(item["skill"]), []).append(is_correct)
    return {skill: compute_accuracy(sum(outcomes), len(outcomes)) for skill, outcomes in correct.items()}


def compare_answers(
    items: Sequence[Mapping[str, Any]], answers: Mapping[str, Sequence[GeneratedText]]
) -> tuple[ItemAnswers, ...]:
    """Return the first items of each skill with the answers of all models, which are given by model."""
    examples: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        if len(examples.setdefault(str(item["skill"]), [])) < EXAMPLES_PER_GROUP:
            examples[str(item["skill"])].append(i)
    return tuple(
        ItemAnswers(
            skill=skill,
            prompt=items[i]["prompt"][-1]["content"],
            expected=expected_answer(items[i]),
            answers={name: outputs[i] for name, outputs in answers.items()},
        )
        for skill, indices in examples.items()
        for i in indices
    )
