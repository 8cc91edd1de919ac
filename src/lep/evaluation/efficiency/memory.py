"""Memory of a model's weights and cache, and its context length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lep.modeling.loading import get_max_position_embeddings
from lep.results.efficiency import ContextLength, MemorySummary

_SHORT_PROMPT_TOKENS, _LONG_PROMPT_TOKENS = 8, 16
"""Lengths at which the cache is measured; the difference gives the bytes per token."""


def measure_memory(model: PreTrainedModel) -> MemorySummary:
    """Measure the weights of a model and the cache that transformers creates for it.

    The cache is measured on two short prompts, since no formula covers all model families.
    """
    short, long = _measure_cache_bytes(model, _SHORT_PROMPT_TOKENS), _measure_cache_bytes(model, _LONG_PROMPT_TOKENS)
    if short is None or long is None:
        return MemorySummary(model.get_memory_footprint())
    per_token = (long - short) / (_LONG_PROMPT_TOKENS - _SHORT_PROMPT_TOKENS)
    return MemorySummary(
        weight_bytes=model.get_memory_footprint(),
        kv_cache_bytes_per_token=per_token,
        kv_cache_fixed_bytes=short - _SHORT_PROMPT_TOKENS * per_token,
    )


def read_context_length(model: PreTrainedModel) -> ContextLength:
    """Return the context length and the sliding window of a model's configuration."""
    config: Any = model.config.get_text_config()
    layer_types = getattr(config, "layer_types", None)
    slides = "sliding_attention" in layer_types if layer_types else getattr(config, "use_sliding_window", True)
    return ContextLength(
        tokens=get_max_position_embeddings(model),
        sliding_window=getattr(config, "sliding_window", None) if slides else None,
    )


@torch.inference_mode()
def _measure_cache_bytes(model: PreTrainedModel, num_tokens: int) -> int | None:
    ids = torch.zeros((1, num_tokens), dtype=torch.int64, device=model.device)
    output = model(input_ids=ids, use_cache=True)
    cache = next((output[name] for name in ("past_key_values", "cache_params") if output.get(name) is not None), None)
    if cache is None:
        return None
    sizes = {tensor.data_ptr(): tensor.nbytes for tensor in _iterate_tensors(cache, set())}
    return sum(sizes.values())


def _iterate_tensors(value: Any, seen_ids: set[int]) -> Iterator[Tensor]:
    """Iterate over all tensors of a cache: keys and values, or states of recurrent layers."""
    if id(value) in seen_ids:
        return
    seen_ids.add(id(value))
    if isinstance(value, Tensor):
        if value.dim() > 1:  # else a counter
            yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _iterate_tensors(item, seen_ids)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _iterate_tensors(item, seen_ids)
    elif "cache" in type(value).__module__:
        yield from _iterate_tensors(vars(value), seen_ids)
