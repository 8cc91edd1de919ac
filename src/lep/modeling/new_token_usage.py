"""Measure whether a model generates its new tokens, and count those that its training hardly contains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from lep.modeling.generation import generate_ids

PROMPT_COUNT, PROMPT_LENGTH, CONTINUATION_LENGTH = 16, 32, 32
"""Documents that are continued, tokens of each that are given, and tokens that are generated."""


def compute_generated_new_fraction(
    model: PreTrainedModel, documents: Sequence[Sequence[int]], *, new_ids: Int[Tensor, " new"], prefix_id: int
) -> float | None:
    """Compute the fraction of new tokens among those that a model generates when it continues documents greedily.

    Args:
        model: A causal language model.
        documents: Held-out text as token ids.
        new_ids: Ids of the new tokens, each once.
        prefix_id: The token before each document.

    Returns:
        The fraction; `None` if no document is long enough.
    """
    ids = generate_continuations(model, documents, prefix_id=prefix_id)
    return torch.isin(ids, new_ids.cpu()).double().mean().item() if ids.numel() else None


def count_rare_new_tokens(
    new_ids: Int[Tensor, " new"], token_counts: Int[np.ndarray, " vocab"], *, min_count: int
) -> int:
    """Count the new tokens that the training samples contain fewer than `min_count` times.

    Args:
        new_ids: Ids of the new tokens.
        token_counts: Occurrences of each id in the samples.
        min_count: Occurrences that are enough.

    Returns:
        The number of new tokens.
    """
    return int((token_counts[new_ids.cpu().numpy()] < min_count).sum())


def generate_continuations(
    model: PreTrainedModel, documents: Sequence[Sequence[int]], *, prefix_id: int
) -> Int[Tensor, "prompts length"]:
    """Continue the first `PROMPT_COUNT` documents that are long enough, greedily, by `CONTINUATION_LENGTH` tokens.

    No end-of-sequence token stops generation. It runs in evaluation mode, and leaves the model in the mode it was in.

    Args:
        model: A causal language model.
        documents: Text as token ids.
        prefix_id: The token before each document.

    Returns:
        The generated ids, on the CPU.
    """
    prompts = [[prefix_id, *document[:PROMPT_LENGTH]] for document in documents if len(document) >= PROMPT_LENGTH]
    if not prompts:
        return torch.empty(0, CONTINUATION_LENGTH, dtype=torch.int64)
    ids = torch.tensor(prompts[:PROMPT_COUNT], device=model.device)
    with _evaluation_mode(model), _default_generation_config(model):
        new_ids = generate_ids(model, ids, torch.ones_like(ids), do_sample=False, max_new_tokens=CONTINUATION_LENGTH)
    return new_ids.cpu()


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode inside the context, and each module's own mode outside."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def _default_generation_config(model: Any) -> Iterator[None]:
    """Ignore the generation settings of the model's folder inside the context: sampling, penalties, end tokens."""
    original, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = original
