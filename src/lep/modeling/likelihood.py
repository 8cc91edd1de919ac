"""How well a model predicts text, and how much it trusts its new tokens.

Logits are never held whole where a model's head allows it: see docs/mathematics.md, "Loss without logits".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lep.data.packing import IGNORED
from lep.modeling import chunked_cross_entropy as cross_entropy
from lep.modeling.trainable_embeddings import TrainableTables, is_of_linear_logits
from lep.progress import Advance

BATCH = 2048
"""Tokens that go through the layers together, about."""


@dataclass(frozen=True)
class Likelihood:
    """What a model needs for a text, and apart from it for those of its tokens that are new."""

    bits: float
    """−Σ log₂ p over all tokens."""
    tokens: int
    new_bits: float
    """The same sum over new tokens alone."""
    new_tokens: int
    new_mass: float
    """Probability that the next token is a new one, any of them, as the model sees it: the mean over all positions.

    A model that knows its new tokens has it near `new_share`.
    """

    @property
    def new_share(self) -> float:
        """New tokens among all tokens of the text."""
        return self.new_tokens / self.tokens

    @property
    def new_loss(self) -> float | None:
        """Nats per new token; none where the text has none."""
        return _nats_per_token(self.new_bits, self.new_tokens)

    @property
    def old_loss(self) -> float | None:
        """Nats per token that is not new; none where the text has none."""
        return _nats_per_token(self.bits - self.new_bits, self.tokens - self.new_tokens)


def windows(ids: Sequence[Sequence[int]], *, prefix: int, block: int) -> list[list[int]]:
    """Each document after `prefix`; a document longer than `block` tokens in several windows, each after `prefix`."""
    return [
        [prefix, *document[at : at + block]] for document in ids if document for at in range(0, len(document), block)
    ]


def total_bits(
    model: nn.Module, ids: Sequence[Sequence[int]], *, prefix: int, block: int, advance: Advance = lambda _: None
) -> float:
    """−Σ log₂ p(token | what precedes it in its window), over every token of every document: see `likelihood`."""
    return math.fsum(document_bits(model, ids, prefix=prefix, block=block, advance=advance))


def document_bits(
    model: nn.Module, ids: Sequence[Sequence[int]], *, prefix: int, block: int, advance: Advance = lambda _: None
) -> list[float]:
    """What `total_bits` sums, document by document."""
    found = windows(ids, prefix=prefix, block=block)
    nats = _window_sums(model, found, torch.empty(0, dtype=torch.int64), advance)[:, 0]
    counts = [-(-len(document) // block) for document in ids]
    return [float(part.sum()) / math.log(2) for part in nats.split(counts)]


def likelihood(
    model: nn.Module,
    ids: Sequence[Sequence[int]],
    *,
    new_ids: Int[Tensor, " new"],
    prefix: int,
    block: int,
    advance: Advance = lambda _: None,
) -> Likelihood:
    """How likely a text is; every token of every document is predicted once, from what precedes it in its window.

    Args:
        model: a causal language model of transformers, as it is or as `TrainableTables`.
        ids: the text: documents as token ids.
        new_ids: the tokens to report apart, each once.
        prefix: the token before each window; it is given, not predicted.
        block: tokens in a window, the last of which the model does not see: as many positions as it must have.
        advance: told the number of tokens done.
    """
    sums = _window_sums(model, windows(ids, prefix=prefix, block=block), new_ids, advance)
    nats, new_nats, new_tokens, new_mass = sums.sum(dim=0).tolist()
    tokens = sum(map(len, ids))
    return Likelihood(
        bits=nats / math.log(2),
        tokens=tokens,
        new_bits=new_nats / math.log(2),
        new_tokens=round(new_tokens),
        new_mass=new_mass / max(1, tokens),
    )


@dataclass(frozen=True)
class _Steps:
    """A model in two steps, so that logits need not be held whole: they are `head(states(ids))`, position by position.

    Where logits are more than what a head gives (capped, scaled), the first step is the whole model, the second none.
    """

    states: Callable[..., Tensor]
    head: Callable[[Tensor], Tensor]
    vocab: int
    device: torch.device


def _steps(model: nn.Module) -> _Steps:
    inner: Any = model.model if isinstance(model, TrainableTables) else model
    head, vocab = inner.get_output_embeddings(), inner.config.get_text_config().vocab_size
    linear = model.without_logits if isinstance(model, TrainableTables) else is_of_linear_logits(inner, head)
    if linear:
        return _Steps(lambda **given: inner.base_model(**given)[0], head, vocab, inner.device)
    return _Steps(lambda **given: inner(**given).logits, nn.Identity(), vocab, inner.device)


@torch.inference_mode()
def _window_sums(
    model: nn.Module, found: Sequence[Sequence[int]], new_ids: Int[Tensor, " new"], advance: Advance
) -> Float[Tensor, "windows sums"]:
    """See `_batch_sums`; in the order of the windows."""
    steps = _steps(model)
    sums = torch.zeros(len(found), 4, dtype=torch.float64)
    for places in _batches(found):
        batch = [found[place] for place in places]
        sums[places] = _batch_sums(steps, batch, new_ids).cpu()
        advance(sum(len(window) - 1 for window in batch))
    return sums


def _batches(found: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Places of windows of about the same length together, the shortest first."""
    by_length, start = sorted(range(len(found)), key=lambda place: len(found[place])), 0
    while start < len(by_length):
        count = max(1, BATCH // len(found[by_length[min(start + 31, len(by_length) - 1)]]))
        yield by_length[start : start + count]
        start += count


def _batch_sums(
    steps: _Steps, batch: Sequence[Sequence[int]], new_ids: Int[Tensor, " new"]
) -> Float[Tensor, "windows sums"]:
    """Nats of all and of new tokens, the number of new ones, and the probability given to new ones, by window."""
    lengths = torch.tensor([len(window) for window in batch])
    longest = int(lengths.max())
    padded = torch.tensor([[*window, *[0] * (longest - len(window))] for window in batch])
    present = torch.arange(longest) < lengths[:, None]
    labels = padded[:, 1:].masked_fill(~present[:, 1:], IGNORED).flatten()
    seen, present, labels, new_ids = (
        part.to(steps.device) for part in (padded[:, :-1], present[:, :-1], labels, new_ids)
    )
    states = steps.states(input_ids=seen, attention_mask=present, use_cache=False).flatten(0, 1)
    predicted = (labels != IGNORED).nonzero()[:, 0]
    size = cross_entropy.at_once(steps.vocab, like=states)
    sums = torch.zeros(len(labels), 4, dtype=torch.float64, device=steps.device)
    for some in predicted.split(size):
        sums[some] = _sums(steps.head(states[some]), labels[some], new_ids)
    return sums.view(len(batch), -1, 4).sum(dim=1)


def _sums(
    logits: Float[Tensor, "tokens vocab"], labels: Int[Tensor, " tokens"], new_ids: Int[Tensor, " new"]
) -> Float[Tensor, "tokens sums"]:
    nats, mass = cross_entropy.cross_entropy_and_mass(logits, labels, group=new_ids)
    is_new = torch.isin(labels, new_ids)
    return torch.stack([part.double() for part in (nats, nats * is_new, is_new, mass)], dim=1)


def _nats_per_token(bits: float, tokens: int) -> float | None:
    return bits * math.log(2) / tokens if tokens else None
