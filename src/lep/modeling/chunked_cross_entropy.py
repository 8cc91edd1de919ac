"""Cross-entropy over a large vocabulary whose logits are never held whole, forward and backward in one pass.

Source of the gradient: ∂/∂z (−log softmax(z)[label]) = softmax(z) − onehot(label). The loss is the last thing computed,
so its gradient is known up to a factor as soon as the logits are: each chunk of tokens is done with at once.
docs/mathematics.md, "Loss without logits", counts operations and bytes.
Axes: `tokens`; `vocab` rows of the head; `dim` the model's width.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.data.packing import IGNORED

LOGITS_BYTES, GPU_LOGITS_BYTES = 2**27, 2**30
"""Logits held at a time, all in one buffer. On a GPU the head's gradient, in its memory each time, wants to be rare."""

CACHE_BYTES, GPU_CACHE_BYTES = 2**22, 2**28
"""Of them, logits in float32 at a time. On a processor softmax reads and writes its cache and not its memory."""

ROWS = 4096
"""Rows of the head whose gradient is computed at a time, for the same reason."""


def summed_cross_entropy(
    hidden: Float[Tensor, "tokens dim"],
    rows: Float[Tensor, "vocab dim"],
    labels: Int[Tensor, " tokens"],
    *,
    parts: Sequence[Float[Tensor, "_ dim"]],
) -> Float[Tensor, ""]:
    """Σ −log softmax(rows · h)[label] over the tokens with a label, in nats, in float32.

    Logits are rounded to the dtype of `hidden`, as a model's are; softmax is taken in float32.

    Args:
        hidden: what the head reads.
        rows: the head, in the dtype of `hidden`; gets no gradient itself.
        labels: places in `rows`, or `IGNORED`.
        parts: `rows` in one or several blocks, one after the other: the parameters that get the gradient, summed in
            float32. A part that does not require one costs none.
    """
    present = labels != IGNORED
    return _SummedCrossEntropy.apply(  # type: ignore[no-any-return]
        hidden[present], rows, labels[present], torch.is_grad_enabled(), *parts
    )


def at_once(vocab: int, *, like: Tensor) -> int:
    """Tokens whose logits are held at a time, in the dtype of a tensor and on its device."""
    held = GPU_LOGITS_BYTES if like.is_cuda else LOGITS_BYTES
    return max(1, held // (vocab * like.element_size()))


@torch.no_grad()
def cross_entropy_and_mass(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"], *, group: Int[Tensor, " group"]
) -> tuple[Float[Tensor, " tokens"], Float[Tensor, " tokens"]]:
    """For each token −log softmax(logits)[label], in nats, and Σ softmax(logits)[group]; both in float32.

    Args:
        logits: no more of them than may be held; on a processor only a small part is held again in float32.
        labels: places in the vocabulary.
        group: other places, each once; none makes a sum of 0.
    """
    count = _normalized_at_once(logits)
    nats, mass = logits.new_empty(2, len(logits), dtype=torch.float32)
    for at in range(0, len(logits), count):
        some = slice(at, at + count)
        probabilities, lost = _softmax(logits[some].float(), labels[some, None])
        nats[some], mass[some] = lost[:, 0], probabilities.index_select(1, group).sum(dim=1)
    return nats, mass


class _SummedCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, rows: Tensor, labels: Tensor, differentiate: bool, *parts: Tensor) -> Tensor:
        learns = [differentiate and needed for needed in ctx.needs_input_grad]
        d_hidden = torch.empty_like(hidden) if learns[0] else None
        d_parts = [torch.zeros_like(part) if needed else None for part, needed in zip(parts, learns[4:], strict=True)]
        ends = list(accumulate(len(part) for part in parts))
        size = at_once(len(rows), like=rows)
        buffer = hidden.new_empty(min(size, len(hidden)), len(rows))
        nats = torch.zeros((), device=hidden.device)
        for at in range(0, len(hidden), size):
            chunk = hidden[at : at + size]
            logits = torch.mm(chunk, rows.T, out=buffer[: len(chunk)])
            nats += _softmax_minus_onehot_(logits, labels[at : at + size])
            if d_hidden is not None:
                torch.mm(logits, rows, out=d_hidden[at : at + size])
            for gradient, end in zip(d_parts, ends, strict=True):
                if gradient is not None:
                    _add_product(gradient, logits[:, end - len(gradient) : end], chunk)
        ctx.gradients = [d_hidden, None, None, None, *d_parts]
        return nats

    @staticmethod
    def backward(ctx: Any, d_nats: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        gradients, ctx.gradients = ctx.gradients, None  # held once: a parameter takes its gradient over, uncopied
        return tuple(None if gradient is None else gradient.mul_(d_nats) for gradient in gradients)


def _softmax_minus_onehot_(logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"]) -> Float[Tensor, ""]:
    """Σ −log softmax(logits)[label]; the logits become their gradient."""
    nats = torch.zeros((), device=logits.device)
    count = _normalized_at_once(logits)
    for some, wanted in zip(logits.split(count), labels[:, None].split(count), strict=True):
        probabilities, lost = _softmax(some.float(), wanted)
        nats += lost.sum()
        some.copy_(probabilities.scatter_add_(1, wanted, probabilities.new_full(wanted.shape, -1)))
    return nats


def _softmax(
    scores: Float[Tensor, "tokens vocab"], labels: Int[Tensor, "tokens 1"]
) -> tuple[Float[Tensor, "tokens vocab"], Float[Tensor, "tokens 1"]]:
    """softmax(scores), and −log of it at the labels."""
    probabilities = torch.softmax(scores, dim=-1)
    # log Σ exp = the largest score − the logarithm of its probability, which never underflows
    normalizer = scores.amax(dim=-1, keepdim=True) - probabilities.amax(dim=-1, keepdim=True).log()
    return probabilities, normalizer - scores.gather(1, labels)


def _normalized_at_once(logits: Float[Tensor, "tokens vocab"]) -> int:
    """Tokens whose softmax is taken at a time."""
    held = GPU_CACHE_BYTES if logits.is_cuda else CACHE_BYTES
    return max(1, held // (4 * logits.shape[1]))


def _add_product(
    gradient: Float[Tensor, "rows dim"], differences: Float[Tensor, "tokens rows"], hidden: Float[Tensor, "tokens dim"]
) -> None:
    """gradient += differencesᵀ · hidden."""
    for some, of_rows in zip(gradient.split(ROWS), differences.split(ROWS, dim=1), strict=True):
        some += of_rows.T @ hidden
