"""Answers of a model in memory, one batch at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answer:
    """What a model said, without special tokens, and how many tokens it took, its end and padding not counted."""

    text: str
    tokens: int
    cut: bool = False
    """Whether it had not ended when it had all the tokens that it might take."""


def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    longest: int,
    temperature: float = 0.0,
    exactly: bool = False,
) -> list[Answer]:
    """Continue prompts, all in one batch.

    Args:
        prompts: text that may hold special tokens; none are added.
        longest: tokens at the most.
        temperature: of sampling by torch's random numbers; 0: greedily.
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
            max_new_tokens=longest,
            min_new_tokens=longest if exactly else None,
            pad_token_id=tokenizer.pad_token_id,
            **({"do_sample": True, "temperature": temperature} if temperature else {"do_sample": False}),
        )
    new = ids[:, inputs["input_ids"].shape[1] :]
    texts = tokenizer.batch_decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    ends = model.generation_config.eos_token_id  # pyright: ignore[reportOptionalMemberAccess]
    ends = [tokenizer.pad_token_id, *(ends if isinstance(ends, list) else [] if ends is None else [ends])]
    lengths = (~torch.isin(new, torch.tensor(ends, device=new.device))).sum(dim=1).tolist()
    return [
        Answer(text=text, tokens=length, cut=length == longest) for text, length in zip(texts, lengths, strict=True)
    ]
