"""Throughput is tokens over the time between logits."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from lep.errors import UsageError
from lep.evaluation.efficiency import throughput
from lep.evaluation.efficiency.throughput import WARMUP_TOKENS, Throughput, measure_throughput


@pytest.fixture
def model(make_random_model, tmp_path):
    return AutoModelForCausalLM.from_pretrained(make_random_model(tmp_path / "m"))  # every 13th token is an end


def test_throughput_is_tokens_over_the_time_between_logits(model, monkeypatch) -> None:
    steps: list[int] = []
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: float(len(steps)))
    model.register_forward_hook(lambda *_: steps.append(1))
    speed = measure_throughput(model, [[1, 2, 3, 4]] * 3, new_tokens=5)
    # a second for each step: 3 × 4 tokens, then 3 in each
    assert speed == Throughput(prefill=12.0, decode=3.0, peak_bytes=None)
    assert len(steps) == WARMUP_TOKENS + 5


def test_an_end_of_sequence_does_not_end_the_measurement(model) -> None:
    lengths: list[int] = []
    model.register_forward_pre_hook(
        lambda _, __, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    measure_throughput(model, [[5, 6, 7]], new_tokens=40)
    assert lengths[WARMUP_TOKENS:] == [3] + [1] * 39


def test_too_little_memory_names_the_settings_to_lower(model, monkeypatch) -> None:
    def raise_error(error: Exception):
        def generate(*_, **__):
            raise error

        monkeypatch.setattr(throughput, "_generate", generate)

    raise_error(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(UsageError, match=r"m: out of memory with 2 prompts of 3 tokens; lower efficiency\.batch_size"):
        measure_throughput(model, [[5, 6, 7]] * 2, new_tokens=2)
    raise_error(RuntimeError("another error"))
    with pytest.raises(RuntimeError, match="another error"):
        measure_throughput(model, [[5, 6, 7]], new_tokens=2)
