"""Find out whether a model keeps attention inside the documents of a packed sample."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

_DOCUMENT_LENGTHS = (11, 7, 14)
"""Of the documents that are tried: all different, so that none has the positions of another."""


@torch.no_grad()
def supports_document_masking(model: PreTrainedModel, *, batch_size: int = 2) -> bool:
    """Return whether documents packed into a sample give the logits that each gives alone, tried in one small pass.

    They are packed as in `PackedDataset`: positions restart, and there is no mask. Models without attention (Mamba),
    with other positions (ALiBi), or whose attention ignores positions give other logits. An attention implementation
    can depend on the number of samples in a pass: flash attention separates documents only in a single one.

    Args:
        model: On its device, in its dtype and with its attention implementation; left in the mode that it was in.
        batch_size: Samples in a pass.

    Returns:
        Whether both are the same up to rounding.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    ids = _sample_random_ids(model, batch_size=batch_size)
    positions = torch.cat([torch.arange(length) for length in _DOCUMENT_LENGTHS]).expand(batch_size, -1).to(ids.device)
    training = model.training
    model.eval()
    try:
        packed = _compute_logits(model, ids, positions)
        alone = torch.cat([_compute_logits(model, part, None) for part in ids.split(_DOCUMENT_LENGTHS, dim=1)], dim=1)
    finally:
        model.train(training)
    tolerance = torch.finfo(model.dtype).eps ** 0.5
    return bool((packed - alone).norm() <= tolerance * alone.norm())


def _compute_logits(
    model: PreTrainedModel, ids: Int[Tensor, "batch tokens"], position_ids: Int[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch tokens vocab"]:
    """Compute logits without a cache, with which transformers does not look for documents."""
    positions = {} if position_ids is None else {"position_ids": position_ids}
    output: Any = model(input_ids=ids, use_cache=False, **positions)
    return output.logits.float()


def _sample_random_ids(model: PreTrainedModel, *, batch_size: int) -> Int[Tensor, "rows tokens"]:
    """Sample ids with a generator of their own: always the same, different in each row."""
    generator, size = torch.Generator().manual_seed(0), model.config.get_text_config().vocab_size
    return torch.randint(size, (batch_size, sum(_DOCUMENT_LENGTHS)), generator=generator).to(model.device)
