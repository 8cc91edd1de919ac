"""Greedy answers in batches, and the accuracy of those that can be checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.core.metrics import accuracy
from lep.progress import progress

BATCH = 32


@dataclass(frozen=True)
class Answer:
    """What a model said, without special tokens, and how many tokens it took, its end and padding not counted."""

    text: str
    tokens: int


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    longest: int,
    exactly: bool = False,
) -> list[Answer]:
    """Continue prompts greedily, all in one batch.

    Args:
        prompts: text that may hold special tokens; none are added.
        longest: tokens at the most.
        exactly: generate so many even where the model would stop (for measuring speed).
    """
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    inputs = tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=False).to(model.device)
    with torch.inference_mode():
        ids = model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            do_sample=False,
            max_new_tokens=longest,
            min_new_tokens=longest if exactly else None,
            pad_token_id=tokenizer.pad_token_id,
        )
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ends = model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
    ends = [tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [] if ends is None else [ends])]
    lengths = (~torch.isin(new, torch.tensor(ends, device=new.device))).sum(dim=1).tolist()
    return [Answer(text=text, tokens=length) for text, length in zip(texts, lengths, strict=True)]


def answer_items(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, items: Sequence[Mapping[str, Any]]
) -> list[Answer]:
    """Answers to chat items, in their order. An answer may be twice as long as the expected one, and a little more."""
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
