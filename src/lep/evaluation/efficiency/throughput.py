"""Throughput of a model in tokens per second: prefill and decode, in the generation loop of transformers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from lep.errors import UsageError
from lep.training.resource_errors import is_out_of_memory

WARMUP_TOKENS = 2
"""Tokens that are generated for one prompt before the measurement, so that an idle machine is warmed up."""


@dataclass(frozen=True)
class Throughput:
    """Tokens per second, over all prompts together."""

    prefill: float
    """Of the prompts, until the logits of the first new token."""
    decode: float
    """Of the new tokens after the first one."""
    peak_bytes: int | None
    """Peak memory of the accelerator, weights and cache included; `None` on a CPU."""


def measure_throughput(model: PreTrainedModel, prompts: Sequence[Sequence[int]], *, new_tokens: int) -> Throughput:
    """Measure the throughput of one batch of prompts, each continued greedily by exactly `new_tokens` tokens.

    See [Speed](docs/mathematics.md#speed).

    Args:
        model: On the device that is measured.
        prompts: Token ids, all of one length.
        new_tokens: At least two.

    Returns:
        Tokens per second, and the peak memory.

    Raises:
        UsageError: The memory is used up.
    """
    ids = torch.tensor(prompts, device=model.device)
    on_accelerator = model.device.type == "cuda"
    if on_accelerator:
        torch.cuda.reset_peak_memory_stats(model.device)
    try:
        times = _time_generation(model, ids, new_tokens=new_tokens)
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise UsageError(
            f"{model.name_or_path}: out of memory with {len(ids)} prompts of {ids.shape[1]} tokens; "
            "lower efficiency.batch_size or efficiency.prompt_tokens"
        ) from None
    started, first, *_, last = times
    return Throughput(
        prefill=ids.numel() / (first - started),
        decode=len(ids) * (new_tokens - 1) / (last - first),
        peak_bytes=torch.cuda.max_memory_allocated(model.device) if on_accelerator else None,
    )


def _time_generation(model: PreTrainedModel, ids: torch.Tensor, *, new_tokens: int) -> list[float]:
    """Return the time of the start and of the logits of each new token, in seconds."""
    _generate(model, ids[:1], new_tokens=WARMUP_TOKENS, timer=_TokenTimer())
    timer = _TokenTimer()
    timer.record(model.device)
    _generate(model, ids, new_tokens=new_tokens, timer=timer)
    return timer.timestamps


class _TokenTimer(LogitsProcessor):
    """Records when the logits of each new token are computed, and does not change them."""

    def __init__(self) -> None:
        self.timestamps: list[float] = []

    def __call__(self, input_ids: torch.LongTensor, scores: torch.Tensor) -> torch.Tensor:
        """Implement `transformers.LogitsProcessor`."""
        self.record(scores.device)
        return scores

    def record(self, device: torch.device) -> None:
        """Record the time, after the accelerator has finished."""
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.timestamps.append(time.perf_counter())


def _generate(model: PreTrainedModel, ids: torch.Tensor, *, new_tokens: int, timer: _TokenTimer) -> None:
    with torch.inference_mode():
        model.generate(  # pyright: ignore[reportCallIssue]
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=new_tokens,
            min_new_tokens=new_tokens,
            do_sample=False,
            pad_token_id=0,  # nothing is padded; else transformers warns
            logits_processor=LogitsProcessorList([timer]),
        )
