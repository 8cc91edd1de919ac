"""Cross-entropy over a large vocabulary in chunks of logits, forward and backward in one pass.

∂/∂z (−log softmax(z)[label]) = softmax(z) − onehot(label). The loss is computed last, so its gradient is known up to a
factor as soon as the logits are: each chunk of tokens is finished at once, and the logits of all tokens are never in
memory together. `docs/mathematics.md#loss-without-logits` counts operations and bytes.
Axes: `tokens`; `vocab` rows of the output embeddings; `dim` the hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.data.packed_dataset import IGNORE_INDEX

LOGITS_CHUNK_BYTES, GPU_LOGITS_CHUNK_BYTES = 2**27, 2**30
"""Logits in memory at a time, in one buffer. On a GPU, few large updates of the head's gradient are faster."""

SOFTMAX_CHUNK_BYTES, GPU_SOFTMAX_CHUNK_BYTES = 2**22, 2**28
"""Of those, logits in float32 at a time. On a CPU, softmax then stays in the cache."""

GRADIENT_CHUNK_ROWS = 4096
"""Rows of the output embeddings whose gradient is computed at a time, for the same reason."""


def fused_linear_cross_entropy(
    hidden: Float[Tensor, "tokens dim"],
    weight: Float[Tensor, "vocab dim"],
    labels: Int[Tensor, " tokens"],
    *,
    parameters: Sequence[Float[Tensor, "_ dim"]],
) -> Float[Tensor, ""]:
    """Compute Σ −log softmax(weight · h)[label] over the tokens with a label.

    Logits are rounded to the dtype of `hidden`, as a model's are; softmax is computed in float32.

    Args:
        hidden: Inputs of the output embeddings.
        weight: The output embeddings, in the dtype of `hidden`; it gets no gradient itself.
        labels: Row indices of `weight`, or `IGNORE_INDEX`.
        parameters: The rows of `weight` as one or several parameters, one after the other. They get the gradient,
            summed in float32; one that does not require it costs nothing.

    Returns:
        The sum in nats, in float32.
    """
    present = labels != IGNORE_INDEX
    return _SummedCrossEntropy.apply(  # type: ignore[no-any-return]
        hidden[present], weight, labels[present], torch.is_grad_enabled(), *parameters
    )


def compute_logits_chunk_size(vocab_size: int, *, like: Tensor) -> int:
    """Return how many tokens' logits to hold at a time, in the dtype of a tensor and on its device."""
    num_bytes = GPU_LOGITS_CHUNK_BYTES if like.is_cuda else LOGITS_CHUNK_BYTES
    return max(1, num_bytes // (vocab_size * like.element_size()))


@torch.no_grad()
def cross_entropy_and_group_probability(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"], *, group_ids: Int[Tensor, " group"]
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """Compute −log softmax(logits)[label] and Σ softmax(logits)[group] for each token.

    Args:
        logits: As many as fit into memory; only a part of them is converted to float32 at a time.
        labels: Indices into the vocabulary.
        group_ids: Other indices, each once; without any the sum is 0.

    Returns:
        The cross-entropies in nats and the summed probabilities, in float32.
    """
    size = _compute_softmax_chunk_size(logits)
    nats, group_probability = logits.new_empty(2, len(logits), dtype=torch.float32)
    for start in range(0, len(logits), size):
        chunk = slice(start, start + size)
        probabilities, losses = _softmax_and_cross_entropy(logits[chunk].float(), labels[chunk, None])
        nats[chunk] = losses[:, 0]
        group_probability[chunk] = probabilities.index_select(1, group_ids).sum(dim=1)
    return nats, group_probability


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, grad_enabled: bool, *parameters: Tensor
    ) -> Tensor:
        needs_grad = [grad_enabled and needed for needed in ctx.needs_input_grad]
        d_hidden = torch.empty_like(hidden) if needs_grad[0] else None
        d_parameters = [
            torch.zeros_like(parameter) if needed else None
            for parameter, needed in zip(parameters, needs_grad[4:], strict=True)
        ]
        ends = list(accumulate(len(parameter) for parameter in parameters))
        size = compute_logits_chunk_size(len(weight), like=weight)
        buffer = hidden.new_empty(min(size, len(hidden)), len(weight))
        nats = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), size):
            chunk = hidden[start : start + size]
            logits = torch.mm(chunk, weight.T, out=buffer[: len(chunk)])
            nats += _softmax_minus_onehot_(logits, labels[start : start + size])
            if d_hidden is not None:
                torch.mm(logits, weight, out=d_hidden[start : start + size])
            for gradient, end in zip(d_parameters, ends, strict=True):
                if gradient is not None:
                    _accumulate_weight_gradient(gradient, logits[:, end - len(gradient) : end], chunk)
        ctx.gradients = [d_hidden, None, None, None, *d_parameters]
        return nats

    @staticmethod
    def backward(ctx: Any, d_nats: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = (
            ctx.gradients,
            None,
        )  # no second reference: a parameter takes its gradient over, uncopied
        return tuple(None if gradient is None else gradient.mul_(d_nats) for gradient in gradients)


def _softmax_minus_onehot_(logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
    """Return Σ −log softmax(logits)[label] and replace the logits by their gradient."""
    nats = torch.zeros((), device=logits.device)
    size = _compute_softmax_chunk_size(logits)
    for chunk, targets in zip(logits.split(size), labels[:, None].split(size), strict=True):
        probabilities, losses = _softmax_and_cross_entropy(chunk.float(), targets)
        nats += losses.sum()
        chunk.copy_(probabilities.scatter_add_(1, targets, probabilities.new_full(targets.shape, -1)))
    return nats


def _softmax_and_cross_entropy(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, "tokens 1"]
) -> tuple[Float[Tensor, "tokens vocab"], Float[Tensor, "tokens 1"]]:
    """Return softmax(logits), and −log of it at the labels."""
    probabilities = torch.softmax(logits, dim=-1)
    # log Σ exp = the largest logit − the logarithm of its probability, which never underflows
    normalizer = logits.amax(dim=-1, keepdim=True) - probabilities.amax(dim=-1, keepdim=True).log()
    return probabilities, normalizer - logits.gather(1, labels)


def _compute_softmax_chunk_size(logits: Float[Tensor, "tokens vocab"]) -> int:
    """Return how many tokens' softmax to compute at a time."""
    num_bytes = GPU_SOFTMAX_CHUNK_BYTES if logits.is_cuda else SOFTMAX_CHUNK_BYTES
    return max(1, num_bytes // (4 * logits.shape[1]))


def _accumulate_weight_gradient(
    gradient: Float[Tensor, "rows dim"], d_logits: Float[Tensor, "tokens rows"], hidden: Float[Tensor, "tokens dim"]
) -> None:
    """Add d_logitsᵀ · hidden to the gradient."""
    for rows, d_rows in zip(
        gradient.split(GRADIENT_CHUNK_ROWS), d_logits.split(GRADIENT_CHUNK_ROWS, dim=1), strict=True
    ):
        rows += d_rows.T @ hidden
