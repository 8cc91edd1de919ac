"""Whether a model uses the tokens that are new to it, and whether its training has seen them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig

from lep.modeling.trainable_embeddings import TrainableTables

PROMPTS, PROMPT, LENGTH = 16, 32, 32
"""Documents that are continued, the tokens of each that are given, and the tokens that are generated after them."""


def written_share(
    model: nn.Module, documents: Sequence[Sequence[int]], *, new_ids: Int[Tensor, " new"], prefix: int
) -> float | None:
    """New tokens among those that a model writes when it continues documents; none where no document is long enough.

    Args:
        model: a causal language model of transformers, as it is or as `TrainableTables`.
        documents: held-out text as token ids.
        new_ids: the new tokens, each once.
        prefix: the token before each document.
    """
    written = continuations(model, documents, prefix=prefix)
    return torch.isin(written, new_ids.cpu()).double().mean().item() if written.numel() else None


def seen_less_often(new_ids: Int[Tensor, " new"], counts: Int[np.ndarray, " vocab"], *, times: int) -> int:
    """New tokens that stand in the training samples fewer than so many times; `counts` has every id's occurrences."""
    return int((counts[new_ids.cpu().numpy()] < times).sum())


@torch.inference_mode()
def continuations(
    model: nn.Module, documents: Sequence[Sequence[int]], *, prefix: int
) -> Int[Tensor, "prompts length"]:
    """The first `PROMPTS` documents that are long enough, continued by the likeliest token, `LENGTH` times.

    No end-of-sequence token stops them. The model is asked in evaluation mode, and left in the mode it was in.
    """
    inner: Any = model.model if isinstance(model, TrainableTables) else model
    chosen = [[prefix, *document[:PROMPT]] for document in documents if len(document) >= PROMPT][:PROMPTS]
    if not chosen:
        return torch.empty(0, LENGTH, dtype=torch.int64)
    ids = torch.tensor(chosen, device=inner.device)
    with _evaluating(inner), _plainly_generating(inner):
        found = inner.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=LENGTH
        )
    return found[:, ids.shape[1] :].cpu()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; each module's own mode outside."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _plainly_generating(model: Any) -> Iterator[None]:
    """Without what a model's folder says about generation: samplers, penalties, ends."""
    own, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = own
