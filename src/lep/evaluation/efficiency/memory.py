"""What a model takes in memory, and how far it can look back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lep.modeling.loading import positions

_FEWER, _MORE = 8, 16
"""Tokens after which the cache is weighed: what it grows by in between is what a token costs."""


@dataclass(frozen=True)
class Footprint:
    """Bytes and tokens of one model."""

    weights: int
    """Bytes as loaded, tied tables once."""
    cache_per_token: float | None
    """Bytes that each token adds to what generation keeps; 0: its state is of one size. None: it shows no cache."""
    cache_fixed: float | None
    """Bytes of it that do not grow."""
    positions: int | None
    """Tokens that the model can look back on, by its configuration; None: it does not say."""
    window: int | None
    """Tokens that layers with a sliding window look back on; their cache grows no further. None: there are none."""


def footprint(model: PreTrainedModel) -> Footprint:
    """Weigh a model and the cache that transformers makes for it; no formula knows all families."""
    fewer, more = _cache_bytes(model, _FEWER), _cache_bytes(model, _MORE)
    per_token = None if fewer is None or more is None else (more - fewer) / (_MORE - _FEWER)
    return Footprint(
        weights=model.get_memory_footprint(),
        cache_per_token=per_token,
        cache_fixed=None if fewer is None or per_token is None else fewer - _FEWER * per_token,
        positions=positions(model),
        window=_window(model.config.get_text_config()),
    )


@torch.inference_mode()
def _cache_bytes(model: PreTrainedModel, tokens: int) -> int | None:
    ids = torch.zeros((1, tokens), dtype=torch.int64, device=model.device)
    found = model(input_ids=ids, use_cache=True)
    cache = next((found[name] for name in ("past_key_values", "cache_params") if found.get(name) is not None), None)
    if cache is None:
        return None
    kept = {tensor.data_ptr(): tensor.nbytes for tensor in _tensors(cache, set())}
    return sum(kept.values())


def _tensors(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """All tensors in a cache: of keys and values, or of the states of recurrent layers."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        if value.dim() > 1:  # else a counter
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part, seen)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part, seen)
    elif "cache" in type(value).__module__:
        yield from _tensors(vars(value), seen)


def _window(config: Any) -> int | None:
    kinds = getattr(config, "layer_types", None)
    slides = "sliding_attention" in kinds if kinds else getattr(config, "use_sliding_window", True)
    return getattr(config, "sliding_window", None) if slides else None
