"""How well a model predicts text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lep.progress import Advance


def windows(ids: Sequence[Sequence[int]], *, prefix: int, block: int) -> list[list[int]]:
    """Each document after `prefix`; a document longer than `block` tokens in several windows, each after `prefix`."""
    return [
        [prefix, *document[at : at + block]] for document in ids if document for at in range(0, len(document), block)
    ]


@torch.inference_mode()
def total_bits(
    model: nn.Module, ids: Sequence[Sequence[int]], *, prefix: int, block: int, advance: Advance = lambda _: None
) -> float:
    """−Σ log₂ p(token | what precedes it in its window), over every token of every document.

    Args:
        model: a causal language model; called with `input_ids` and `attention_mask`.
        ids: documents as token ids.
        prefix: the token before each window; it is given, not predicted.
        block: tokens in a window.
        advance: told the number of tokens done.
    """
    place = next(model.parameters()).device
    by_length = sorted(windows(ids, prefix=prefix, block=block), key=len)
    bits, start = 0.0, 0
    while start < len(by_length):
        count = max(1, 2048 // len(by_length[min(start + 31, len(by_length) - 1)]))
        batch = by_length[start : start + count]
        start += count
        bits += _batch_bits(model, batch, place)
        advance(sum(len(window) - 1 for window in batch))
    return bits


def _batch_bits(model: nn.Module, batch: Sequence[Sequence[int]], place: torch.device) -> float:
    lengths = torch.tensor([len(window) for window in batch])
    longest = int(lengths.max())
    padded = torch.tensor([[*window, *[0] * (longest - len(window))] for window in batch])
    present = torch.arange(longest) < lengths[:, None]
    logits: Tensor = model(input_ids=padded.to(place), attention_mask=present.to(place), use_cache=False).logits[:, :-1]
    targets = padded[:, 1:].masked_fill(~present[:, 1:], -100).to(place)
    nats = nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-100, reduction="sum"
    )
    return float(nats.double()) / math.log(2)
