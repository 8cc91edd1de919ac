"""Whether a model keeps attention inside the documents of a sample."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import PreTrainedModel

_LENGTHS = (11, 7, 14)
"""Of the documents that are tried: longer than one another, so that none stands where another would."""


@torch.no_grad()
def attends_inside_documents(model: PreTrainedModel, *, batch: int = 2) -> bool:
    """Whether documents packed into a sample give the logits that each gives alone, as seen in one small pass.

    They are packed as `Samples` gives them: positions restart, and there is no mask. Models without attention
    (Mamba), with other positions (ALiBi), or whose attention does not look at positions, give others. What an attention
    implementation does can depend on the samples in a pass: flash attention parts documents in a single one only.

    Args:
        model: on its device, in its dtype and with its attention; comes back as it was.
        batch: samples in a pass.
    """
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return False
    ids = _random_ids(model, rows=batch)
    positions = torch.cat([torch.arange(length) for length in _LENGTHS]).expand(batch, -1).to(ids.device)
    training = model.training
    model.eval()
    try:
        packed = _logits(model, ids, positions)
        alone = torch.cat([_logits(model, part, None) for part in ids.split(_LENGTHS, dim=1)], dim=1)
    finally:
        model.train(training)
    tolerance = torch.finfo(model.dtype).eps ** 0.5
    return bool((packed - alone).norm() <= tolerance * alone.norm())


def _logits(
    model: PreTrainedModel, ids: Int[Tensor, "batch tokens"], positions: Int[Tensor, "batch tokens"] | None
) -> Float[Tensor, "batch tokens vocab"]:
    """Without a cache, with which transformers does not look for documents."""
    given = {} if positions is None else {"position_ids": positions}
    found: Any = model(input_ids=ids, use_cache=False, **given)
    return found.logits.float()


def _random_ids(model: PreTrainedModel, *, rows: int) -> Int[Tensor, "rows tokens"]:
    """The same ones each time, every row others; global random numbers stay as they are."""
    generator, size = torch.Generator().manual_seed(0), model.config.get_text_config().vocab_size
    return torch.randint(size, (rows, sum(_LENGTHS)), generator=generator).to(model.device)
