"""How fast a model reads and writes tokens: by the clock, in transformers' own generation."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from lep.errors import UsageError

WARMING = 2
"""Tokens that are written after one prompt before the clock runs, so that a machine at rest is awake."""


@dataclass(frozen=True)
class Rates:
    """Tokens per second, over all prompts together."""

    reading: float
    """Of the prompts, until the logits of the first new token are there (prefill)."""
    writing: float
    """Of the tokens after the first one (generation)."""
    peak: int | None
    """Bytes of the accelerator's memory that were taken at most, by weights, cache and all; None: there is none."""


def measure_rates(model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, new_tokens: int) -> Rates:
    """Read the prompts, all in one batch, and continue each greedily by exactly `new_tokens` tokens.

    Args:
        prompts: token ids, of one length.
        new_tokens: two or more.

    Raises:
        UsageError: too little memory on the accelerator.
    """
    ids = torch.tensor(prompts, device=model.device)
    on_accelerator = model.device.type == "cuda"
    if on_accelerator:
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        times = _times(model, ids, new_tokens=new_tokens)
    except torch.OutOfMemoryError:
        raise UsageError(
            f"{model.name_or_path}: too little memory on the accelerator for {len(ids)} prompts of {ids.shape[1]} "
            "tokens; lower efficiency.prompts or efficiency.prompt_tokens"
        ) from None
    started, first, *_, last = times
    return Rates(
        reading=ids.numel() / (first - started),
        writing=len(ids) * (new_tokens - 1) / (last - first),
        peak=torch.cuda.max_memory_allocated(model.device) if on_accelerator else None,
    )


def _times(model: PreTrainedModel, ids: torch.Tensor, *, new_tokens: int) -> list[float]:
    """When it began, and when the logits of each new token were there, in seconds."""
    _generate(model, ids[:1], new_tokens=WARMING, clock=_Clock())
    clock = _Clock()
    clock.tick(model.device)
    _generate(model, ids, new_tokens=new_tokens, clock=clock)
    return clock.times


class _Clock(LogitsProcessor):
    """Keeps when the logits of each new token were there, and changes none of them."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """See transformers."""
        self.tick(scores.device)
        return scores

    def tick(self, device: torch.device) -> None:
        """An accelerator is waited for: it works on while Python goes ahead."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.times.append(time.perf_counter())


def _generate(model: PreTrainedModel, ids: torch.Tensor, *, new_tokens: int, clock: _Clock) -> None:
    with torch.inference_mode():
        model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,  # nothing is padded; else transformers warns
            logits_processor=LogitsProcessorList([clock]),
        )
