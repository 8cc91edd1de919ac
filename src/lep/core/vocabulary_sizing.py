"""How large a new vocabulary should be: what each size brings and costs, and the rule that chooses.

A size is a number of new tokens; 0 is the base as it is. Text of several languages is mixed by shares of its symbols.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Literal

FIRST = 1_000
"""The smallest size that is looked at; each further one is twice the size before."""

DOUBLING = 0.05
"""By this share of the text before it, a size must shorten the text: fewer tokens saved are not worth twice the rows.
Ours."""

WORTH = 0.15
"""By this share of the base's text, the chosen size must shorten the text, else nothing is worth the training. Ours."""

SEEN = 100
"""Occurrences in training after which a new token counts as learnt. Source: Gowda & May 2020, arXiv 2004.02334."""

SEEN_SHARE = 0.95
"""Share of the new tokens that must be learnt. Source: the same."""

PADDING = 64
"""Tables get a multiple of so many rows, as `initialize` makes them."""

BFLOAT16 = 2
"""Bytes of a parameter."""

Limit = Literal["text", "speed", "occurrences", "covered", "sweep"]
"""What speaks against a larger size: its text is hardly shorter; its generation is slower; its tokens are too rare; no
size shortens the text much; or no larger one was looked at."""


@dataclass(frozen=True)
class Text:
    """How much text there is, however tokens cut it."""

    symbols: int
    bytes: int
    words: int
    """Runs of anything but white space."""


@dataclass(frozen=True)
class Size:
    """What was counted at one size."""

    new_tokens: int
    vocabulary_size: int
    tokens: Mapping[str, int]
    """Tokens of the held-out text, by language."""
    occurrences: Sequence[float]
    """Of each new token, in training."""
    trained: float
    """Tokens of training."""


@dataclass(frozen=True)
class Model:
    """What a vocabulary's cost depends on."""

    width: int
    """Numbers in a row."""
    tied: bool
    """Whether one table is both embed and head."""
    parameters: int
    """All of them, both tables included."""
    rows: int
    """Of each table, with the base's vocabulary."""

    @property
    def read(self) -> int:
        """Parameters read for each generated token: all but embed, of which one row is looked up, unless it is head."""
        return self.parameters - (0 if self.tied else self.rows * self.width)

    def rows_for(self, size: Size) -> int:
        """Rows of each table: the base's own, or enough for the vocabulary, padded."""
        return padded(size.vocabulary_size) if size.new_tokens else self.rows


@dataclass(frozen=True)
class Density:
    """How tokens cut the held-out text of one language."""

    symbols_per_token: float
    bytes_per_token: float
    tokens_per_word: float


@dataclass(frozen=True)
class Cost:
    """What the tables grow by; negative where they shrink."""

    parameters: int
    bytes: int
    """In bfloat16."""
    share: float
    """Of the parameters of the model with the base's tables."""


@dataclass(frozen=True)
class Point:
    """One size: what it brings and what it costs."""

    new_tokens: int
    vocabulary_size: int
    languages: Mapping[str, Density]
    shorter: float
    """Share of the mixture's tokens that are saved, against the base."""
    prefill: float
    """How many times faster the mixture's text is read."""
    generation: float | None
    """How many times faster it is written; None without a model."""
    cost: Cost | None
    """None without a model."""
    learnt: float
    """Share of the new tokens that occur at least `SEEN` times in training."""
    enough: int | None
    """Tokens of training, on text like this, with which `SEEN_SHARE` of them do; None: no text like this is enough."""


@dataclass(frozen=True)
class Recommendation:
    """The size to take, and what speaks against more."""

    new_tokens: int
    """0: do not extend."""
    limit: Limit
    at: int
    """The size that the limit is about: the next larger one or, where none is taken, the one that comes closest."""


def doublings(most: int) -> list[int]:
    """`FIRST` and its doublings up to `most`; only `most` when that is smaller, none when it is 0."""
    found = [min(FIRST, most)] if most > 0 else []
    while found and 2 * found[-1] <= most:
        found.append(2 * found[-1])
    return found


def padded(tokens: int) -> int:
    """Rows of the tables for so many tokens."""
    return -(-tokens // PADDING) * PADDING


def counts_at(
    counts: Sequence[int], parts: Mapping[int, Sequence[int]], *, ends: Sequence[int]
) -> dict[int, list[int]]:
    """How often a text uses each id of vocabularies that end earlier, from what the whole vocabulary uses.

    BPE applies merges in the order of their ids, so a text in the first ids is the text in all of them before the first
    later merge. Later tokens are undone from the last one on, and give their uses to their parts:

        count(a) += count(t) · (how often a is a part of t)

    Args:
        counts: uses of each id.
        parts: the earlier ids that make an id, for each from the earliest end on.
        ends: where each vocabulary ends: its number of ids.

    Returns:
        By end, the uses of each id below it.

    Source: docs/mathematics.md, "Continued merges".
    """
    left = list(counts)
    found = {}
    for end in sorted(ends, reverse=True):
        while len(left) > end:
            uses = left.pop()
            for part in parts[len(left)]:
                left[part] += uses
        found[end] = list(left)
    return found


def weigh(
    sizes: Sequence[Size], texts: Mapping[str, Text], *, shares: Mapping[str, float], model: Model | None
) -> list[Point]:
    """What each size brings and costs.

    Prefill is bound by arithmetic in the layers, the same for every token, and needs head once a text; generation of
    one text is bound by reading the weights, all but embed, once a token. Characters then go faster by

        prefill = tokens before / tokens after,    generation = prefill · weights read before / weights read after

    Attention's growth with length is left out of both, to the disadvantage of the larger vocabulary.

    Args:
        sizes: the base first.
        texts: held-out text of every language.
        shares: of the mixture's symbols, by language, in any unit.
        model: what the costs are for.
    """

    def mixed(size: Size) -> float:
        """Tokens of the mixture, up to a factor."""
        return sum(share * size.tokens[language] / texts[language].symbols for language, share in shares.items())

    points = []
    for size in sizes:
        faster = mixed(sizes[0]) / mixed(size)
        point = Point(
            new_tokens=size.new_tokens,
            vocabulary_size=size.vocabulary_size,
            languages={language: _density(text, size.tokens[language]) for language, text in texts.items()},
            shorter=1 - 1 / faster,
            prefill=faster,
            generation=faster * model.read / (model.read + _grown(model, size)) if model else None,
            cost=_cost(model, size) if model else None,
            learnt=sum(n >= SEEN for n in size.occurrences) / max(len(size.occurrences), 1),
            enough=_enough(size),
        )
        points.append(point)
    return points


def recommend(points: Sequence[Point]) -> Recommendation:
    """The largest size that pays, if it shortens the text by `WORTH`.

    A size pays when it shortens the text by `DOUBLING` against the size before, makes generation no slower than any
    size before, and has `SEEN_SHARE` of its tokens learnt. The largest, not the first that does not: where a base
    already has tokens for the language, gains begin small and grow.

    Args:
        points: the base first, then sizes from small to large.
    """
    limits: list[Limit | None] = [_limit(points[:i], point) for i, point in enumerate(points)]
    chosen = max(i for i, limit in enumerate(limits) if limit is None)
    if points[chosen].shorter >= WORTH:
        larger = min(chosen + 1, len(points) - 1)
        return Recommendation(points[chosen].new_tokens, limits[larger] or "sweep", points[larger].new_tokens)
    for point, limit in zip(points, limits, strict=True):
        if point.shorter >= WORTH and limit:
            return Recommendation(0, limit, point.new_tokens)
    return Recommendation(0, "covered", max(points, key=lambda point: point.shorter).new_tokens)


def _limit(before: Sequence[Point], point: Point) -> Limit | None:
    """Why a size does not pay, after those before it; None when it does, as the base always does."""
    if not before:
        return None
    if 1 - point.shorter > (1 - DOUBLING) * (1 - before[-1].shorter):
        return "text"
    if point.generation is not None and point.generation < max(other.generation or 0.0 for other in before):
        return "speed"
    return None if point.learnt >= SEEN_SHARE else "occurrences"


def _grown(model: Model, size: Size) -> int:
    """Parameters that one table gains."""
    return (model.rows_for(size) - model.rows) * model.width


def _cost(model: Model, size: Size) -> Cost:
    added = _grown(model, size) * (1 if model.tied else 2)
    return Cost(added, added * BFLOAT16, added / model.parameters)


def _enough(size: Size) -> int | None:
    """Occurrences grow with training: `SEEN` / (those of the rarest token that must be learnt) · tokens of training."""
    if not size.occurrences:
        return 0
    rarest = sorted(size.occurrences)[int((1 - SEEN_SHARE) * len(size.occurrences))]
    return ceil(SEEN / rarest * size.trained) if rarest else None


def _density(text: Text, tokens: int) -> Density:
    return Density(text.symbols / tokens, text.bytes / tokens, tokens / text.words)
