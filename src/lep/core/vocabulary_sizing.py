"""Choose the size of a new vocabulary: what each size gains and costs, and the rule that recommends one.

A size is a number of new tokens; 0 is the base vocabulary. Languages are mixed by their shares of characters. The
values that leave this module are in `lep.results.advice`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from lep.results.advice import (
    EmbeddingCost,
    LanguageCompression,
    LimitingFactor,
    ModelDimensions,
    SizeRecommendation,
    SizeTradeoff,
    TextCounts,
)

SMALLEST_SIZE = 1_000
"""The smallest candidate size; each further one is twice as large."""

MIN_DOUBLING_GAIN = 0.05
"""Minimum fraction of the text's tokens that each doubling must save; less is not worth twice the rows. Our choice."""

MIN_TOTAL_GAIN = 0.15
"""Minimum fraction of the base's tokens that the recommended size must save; less is not worth the training. Our
choice."""

MIN_OCCURRENCES = 100
"""Occurrences in training after which a new token counts as trained. Source: Gowda & May 2020, arXiv 2004.02334."""

MIN_TRAINED_FRACTION = 0.95
"""Minimum fraction of the new tokens that must be trained. Source: the same."""

PAD_TO_MULTIPLE_OF = 64
"""`initialize` pads the rows of the embedding matrices to a multiple of this."""

BYTES_PER_PARAMETER = 2
"""Size of a bfloat16 parameter."""


@dataclass(frozen=True)
class SizeMeasurement:
    """Token counts of one vocabulary size."""

    new_tokens: int
    vocabulary_size: int
    heldout_tokens: Mapping[str, int]
    """Tokens of the held-out text, by language."""
    occurrences: Sequence[float]
    """Occurrences in training, by new token."""
    training_tokens: float
    """Length of the training, in tokens."""


def candidate_sizes(max_size: int) -> list[int]:
    """Return `SMALLEST_SIZE` and its doublings up to `max_size`.

    >>> candidate_sizes(5000), candidate_sizes(500), candidate_sizes(0)
    ([1000, 2000, 4000], [500], [])

    Args:
        max_size: new tokens of the largest size.

    Returns:
        The sizes in ascending order; `max_size` alone when it is smaller than `SMALLEST_SIZE`, nothing when it is 0.
    """
    sizes = [min(SMALLEST_SIZE, max_size)] if max_size > 0 else []
    while sizes and 2 * sizes[-1] <= max_size:
        sizes.append(2 * sizes[-1])
    return sizes


def pad_vocabulary_size(vocabulary_size: int) -> int:
    """Return the number of embedding rows for this many tokens."""
    return -(-vocabulary_size // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF


def compute_counts_at_sizes(
    counts: Sequence[int], parts: Mapping[int, Sequence[int]], *, vocabulary_sizes: Sequence[int]
) -> dict[int, list[int]]:
    """Compute token counts of a text in truncated vocabularies from its counts in the full one.

    BPE applies merges in the order of their ids, so a tokenizer cut to its first ids gives the full tokenization with
    the later merges undone. They are undone one by one, the last first: each token adds its count to its parts' counts:

        count(a) += count(t) · (how often a is a part of t)

    Formula: docs/mathematics.md#continued-merges-and-why-they-are-exact, "Smaller vocabularies without segmenting
    again".

    Args:
        counts: occurrences by id in the full vocabulary.
        parts: id → the earlier ids that it is made of, for every id from the smallest size on.
        vocabulary_sizes: number of ids of each truncated vocabulary.

    Returns:
        Vocabulary size → occurrences by id.
    """
    remaining = list(counts)
    counts_by_size = {}
    for size in sorted(vocabulary_sizes, reverse=True):
        while len(remaining) > size:
            count = remaining.pop()
            for part in parts[len(remaining)]:
                remaining[part] += count
        counts_by_size[size] = list(remaining)
    return counts_by_size


def compute_tradeoffs(
    sizes: Sequence[SizeMeasurement],
    texts: Mapping[str, TextCounts],
    *,
    shares: Mapping[str, float],
    model: ModelDimensions | None,
) -> list[SizeTradeoff]:
    """Compute what each size gains and costs.

    Prefill is bound by arithmetic in the layers, the same for every token; the output embeddings are needed once per
    text. Generating a single sequence is bound by reading the weights once per token, all but the input embeddings.
    In characters per second:

        prefill speedup = tokens before / tokens after
        generation speedup = prefill speedup · parameters read before / parameters read after

    Both leave out that attention costs more in longer sequences, to the disadvantage of the larger vocabulary.

    Args:
        sizes: measurements, the base first.
        texts: held-out text by language.
        shares: share of the mixture's characters by language, in any unit.
        model: dimensions for the costs and the generation speedup; `None`: both are left out.

    Returns:
        One tradeoff per measurement, in order.
    """

    def count_mixture_tokens(size: SizeMeasurement) -> float:
        """Tokens of the mixture, up to a constant factor."""
        return sum(
            share * size.heldout_tokens[language] / texts[language].characters for language, share in shares.items()
        )

    tokens_before = count_mixture_tokens(sizes[0])
    return [
        _compute_tradeoff(size, texts, prefill_speedup=tokens_before / count_mixture_tokens(size), model=model)
        for size in sizes
    ]


def recommend_size(tradeoffs: Sequence[SizeTradeoff]) -> SizeRecommendation:
    """Recommend the largest size that pays, if it saves at least `MIN_TOTAL_GAIN` of the tokens.

    A size pays when it saves at least `MIN_DOUBLING_GAIN` of the tokens of the size before, generation is not slower
    than with any smaller size, and at least `MIN_TRAINED_FRACTION` of its new tokens are trained. A size
    can pay even if a smaller one does not (where the base already has tokens for the language, gains begin small and
    grow), so all are tried and the largest that pays is taken.

    Args:
        tradeoffs: the base first, then sizes in ascending order.

    Returns:
        The recommended size, and what limits it.
    """
    limits: list[LimitingFactor | None] = [
        _find_limiting_factor(tradeoffs[:i], point) for i, point in enumerate(tradeoffs)
    ]
    chosen = max(i for i, limit in enumerate(limits) if limit is None)
    if tradeoffs[chosen].token_reduction >= MIN_TOTAL_GAIN:
        larger = min(chosen + 1, len(tradeoffs) - 1)
        return SizeRecommendation(tradeoffs[chosen].new_tokens, limits[larger] or "sweep", tradeoffs[larger].new_tokens)
    for point, limit in zip(tradeoffs, limits, strict=True):
        if point.token_reduction >= MIN_TOTAL_GAIN and limit:
            return SizeRecommendation(0, limit, point.new_tokens)
    return SizeRecommendation(0, "covered", max(tradeoffs, key=lambda point: point.token_reduction).new_tokens)


def _compute_tradeoff(
    size: SizeMeasurement, texts: Mapping[str, TextCounts], *, prefill_speedup: float, model: ModelDimensions | None
) -> SizeTradeoff:
    decode_speedup = cost = None
    if model:
        parameters_read = model.parameters_read_per_token
        decode_speedup = prefill_speedup * parameters_read / (parameters_read + _count_added_parameters(model, size))
        cost = _compute_cost(model, size)
    return SizeTradeoff(
        new_tokens=size.new_tokens,
        vocabulary_size=size.vocabulary_size,
        compression={
            language: _compute_compression(text, size.heldout_tokens[language]) for language, text in texts.items()
        },
        token_reduction=1 - 1 / prefill_speedup,
        prefill_speedup=prefill_speedup,
        decode_speedup=decode_speedup,
        cost=cost,
        trained_fraction=sum(n >= MIN_OCCURRENCES for n in size.occurrences) / max(len(size.occurrences), 1),
        training_tokens_needed=_compute_training_tokens_needed(size),
    )


def _find_limiting_factor(smaller: Sequence[SizeTradeoff], point: SizeTradeoff) -> LimitingFactor | None:
    """Return why a size does not pay after those before it; `None` when it does, as the base always does."""
    if not smaller:
        return None
    if 1 - point.token_reduction > (1 - MIN_DOUBLING_GAIN) * (1 - smaller[-1].token_reduction):
        return "text"
    if point.decode_speedup is not None and point.decode_speedup < max(
        other.decode_speedup or 0.0 for other in smaller
    ):
        return "speed"
    return None if point.trained_fraction >= MIN_TRAINED_FRACTION else "occurrences"


def _count_added_parameters(model: ModelDimensions, size: SizeMeasurement) -> int:
    """Return the parameters that one embedding matrix gains; the base keeps its own rows, other sizes are padded."""
    rows = pad_vocabulary_size(size.vocabulary_size) if size.new_tokens else model.num_embeddings
    return (rows - model.num_embeddings) * model.hidden_size


def _compute_cost(model: ModelDimensions, size: SizeMeasurement) -> EmbeddingCost:
    added = _count_added_parameters(model, size) * (1 if model.tied else 2)
    return EmbeddingCost(added, added * BYTES_PER_PARAMETER, added / model.num_parameters)


def _compute_training_tokens_needed(size: SizeMeasurement) -> int | None:
    """Scale training until the rarest new token of those that must be trained occurs `MIN_OCCURRENCES` times."""
    if not size.occurrences:
        return 0
    rarest = sorted(size.occurrences)[int((1 - MIN_TRAINED_FRACTION) * len(size.occurrences))]
    return ceil(MIN_OCCURRENCES / rarest * size.training_tokens) if rarest else None


def _compute_compression(text: TextCounts, tokens: int) -> LanguageCompression:
    return LanguageCompression(text.characters / tokens, text.bytes / tokens, tokens / text.words)
