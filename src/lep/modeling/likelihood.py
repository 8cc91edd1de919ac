"""Compute how well a model predicts text, and the probability that it gives to its new tokens.

The logits of a text are never in memory together if the model's loss allows it: see
`docs/mathematics.md#loss-without-logits`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from lep.data.packed_dataset import IGNORE_INDEX
from lep.modeling import chunked_cross_entropy as cross_entropy
from lep.modeling.trainable_embeddings import has_linear_logits
from lep.progress import Advance

TOKENS_PER_BATCH = 2048
"""Approximate number of tokens in a forward pass."""


@dataclass(frozen=True)
class Likelihood:
    """Bits that a model needs for a text, and for those of its tokens that are new."""

    bits: float
    """−Σ log₂ p over all tokens."""
    tokens: int
    new_token_bits: float
    """The same sum over new tokens alone."""
    new_tokens: int
    new_token_probability: float
    """Mean over all positions of the probability that the next token is any of the new ones.

    A model that knows its new tokens has it near `new_token_fraction`.
    """

    @property
    def new_token_fraction(self) -> float:
        """Fraction of new tokens among all tokens of the text."""
        return self.new_tokens / self.tokens

    @property
    def new_token_loss(self) -> float | None:
        """Nats per new token; `None` if the text has none."""
        return _nats_per_token(self.new_token_bits, self.new_tokens)

    @property
    def old_token_loss(self) -> float | None:
        """Nats per token that is not new; `None` if the text has none."""
        return _nats_per_token(self.bits - self.new_token_bits, self.tokens - self.new_tokens)


def split_into_windows(ids: Sequence[Sequence[int]], *, prefix_id: int, sequence_length: int) -> list[list[int]]:
    """Split documents into windows.

    Args:
        ids: Documents as token ids.
        prefix_id: The token before each window.
        sequence_length: Most tokens of a window, the prefix not counted.

    Returns:
        The windows, each with its prefix, in the order of the text.
    """
    return [
        [prefix_id, *document[start : start + sequence_length]]
        for document in ids
        if document
        for start in range(0, len(document), sequence_length)
    ]


def compute_total_bits(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    *,
    prefix_id: int,
    sequence_length: int,
    advance: Advance = lambda _: None,
) -> float:
    """Compute −Σ log₂ p(token | tokens before it in its window) over all documents; see `compute_likelihood`.

    Args:
        model: A causal language model.
        ids: Documents as token ids.
        prefix_id: The token before each window, which is not predicted.
        sequence_length: Most tokens of a window.
        advance: Called with the number of tokens that are done.

    Returns:
        The sum in bits.
    """
    return math.fsum(
        compute_document_bits(model, ids, prefix_id=prefix_id, sequence_length=sequence_length, advance=advance)
    )


def compute_document_bits(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    *,
    prefix_id: int,
    sequence_length: int,
    advance: Advance = lambda _: None,
) -> list[float]:
    """Compute the bits of each document; see `compute_total_bits`.

    Args:
        model: A causal language model.
        ids: Documents as token ids.
        prefix_id: The token before each window, which is not predicted.
        sequence_length: Most tokens of a window.
        advance: Called with the number of tokens that are done.

    Returns:
        Bits by document.
    """
    windows = split_into_windows(ids, prefix_id=prefix_id, sequence_length=sequence_length)
    nats = _compute_window_sums(model, windows, torch.empty(0, dtype=torch.int64), advance)[:, 0]
    counts = [-(-len(document) // sequence_length) for document in ids]
    return [float(document.sum()) / math.log(2) for document in nats.split(counts)]


def compute_likelihood(
    model: PreTrainedModel,
    ids: Sequence[Sequence[int]],
    *,
    new_ids: Int[Tensor, " new"],
    prefix_id: int,
    sequence_length: int,
    advance: Advance = lambda _: None,
) -> Likelihood:
    """Compute how likely a text is: every token is predicted once, from the tokens before it in its window.

    Args:
        model: A causal language model; also the one inside `TrainableEmbeddings`.
        ids: Documents as token ids.
        new_ids: Tokens to report separately, each once.
        prefix_id: The token before each window, which is not predicted.
        sequence_length: Most tokens of a window; the model needs as many positions, since it does not read the last
            token.
        advance: Called with the number of tokens that are done.

    Returns:
        Bits of all tokens and of new ones.
    """
    sums = _compute_window_sums(
        model, split_into_windows(ids, prefix_id=prefix_id, sequence_length=sequence_length), new_ids, advance
    )
    nats, new_nats, new_tokens, new_mass = sums.sum(dim=0).tolist()
    tokens = sum(map(len, ids))
    return Likelihood(
        bits=nats / math.log(2),
        tokens=tokens,
        new_token_bits=new_nats / math.log(2),
        new_tokens=round(new_tokens),
        new_token_probability=new_mass / max(1, tokens),
    )


@dataclass(frozen=True)
class _BodyAndHead:
    """A model in two steps, so that logits can be computed for a few positions at a time: `head(body(ids))`.

    If logits are more than a product with the output embeddings (capped, scaled), the body is the whole model.
    """

    body: Callable[..., Tensor]
    head: Callable[[Tensor], Tensor]
    vocab_size: int
    device: torch.device


def _split_body_and_head(model: PreTrainedModel) -> _BodyAndHead:
    head: Any = model.get_output_embeddings()
    vocab_size = model.config.get_text_config().vocab_size
    if has_linear_logits(model):
        return _BodyAndHead(lambda **inputs: model.base_model(**inputs)[0], head, vocab_size, model.device)
    return _BodyAndHead(lambda **inputs: model(**inputs).logits, nn.Identity(), vocab_size, model.device)


@torch.inference_mode()
def _compute_window_sums(
    model: PreTrainedModel, windows: Sequence[Sequence[int]], new_ids: Int[Tensor, " new"], advance: Advance
) -> Float[Tensor, "windows sums"]:
    """See `_compute_batch_sums`; in the order of the windows."""
    split_model = _split_body_and_head(model)
    sums = torch.zeros(len(windows), 4, dtype=torch.float64)
    for indices in _batch_by_length(windows):
        batch = [windows[index] for index in indices]
        sums[indices] = _compute_batch_sums(split_model, batch, new_ids).cpu()
        advance(sum(len(window) - 1 for window in batch))
    return sums


def _batch_by_length(windows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Yield batches of windows of similar length, as indices, the shortest first."""
    by_length, start = sorted(range(len(windows)), key=lambda index: len(windows[index])), 0
    while start < len(by_length):
        count = max(1, TOKENS_PER_BATCH // len(windows[by_length[min(start + 31, len(by_length) - 1)]]))
        yield by_length[start : start + count]
        start += count


def _compute_batch_sums(
    model: _BodyAndHead, batch: Sequence[Sequence[int]], new_ids: Int[Tensor, " new"]
) -> Float[Tensor, "windows sums"]:
    """Sum, by window, nats of all and of new tokens, the number of new ones, and the probability given to new ones."""
    lengths = torch.tensor([len(window) for window in batch])
    longest = int(lengths.max())
    padded = torch.tensor([[*window, *[0] * (longest - len(window))] for window in batch])
    present = torch.arange(longest) < lengths[:, None]
    labels = padded[:, 1:].masked_fill(~present[:, 1:], IGNORE_INDEX).flatten()
    inputs, present, labels, new_ids = (
        tensor.to(model.device) for tensor in (padded[:, :-1], present[:, :-1], labels, new_ids)
    )
    hidden = model.body(input_ids=inputs, attention_mask=present, use_cache=False).flatten(0, 1)
    predicted = (labels != IGNORE_INDEX).nonzero()[:, 0]
    size = cross_entropy.compute_logits_chunk_size(model.vocab_size, like=hidden)
    sums = torch.zeros(len(labels), 4, dtype=torch.float64, device=model.device)
    for chunk in predicted.split(size):
        sums[chunk] = _compute_token_sums(model.head(hidden[chunk]), labels[chunk], new_ids)
    return sums.view(len(batch), -1, 4).sum(dim=1)


def _compute_token_sums(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"], new_ids: Int[Tensor, " new"]
) -> Float[Tensor, "tokens sums"]:
    nats, probability = cross_entropy.cross_entropy_and_group_probability(logits, labels, group_ids=new_ids)
    is_new = torch.isin(labels, new_ids)
    return torch.stack([column.double() for column in (nats, nats * is_new, is_new, probability)], dim=1)


def _nats_per_token(bits: float, tokens: int) -> float | None:
    return bits * math.log(2) / tokens if tokens else None
