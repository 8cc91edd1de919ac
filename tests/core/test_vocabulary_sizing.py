"""Vocabulary sizing by hand: what sizes gain and cost, and which is recommended."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lep.core.bpe import apply_merges
from lep.core.vocabulary_sizing import (
    SizeMeasurement,
    candidate_sizes,
    compute_counts_at_sizes,
    compute_tradeoffs,
    pad_vocabulary_size,
    recommend_size,
)
from lep.results.advice import (
    LanguageCompression,
    ModelDimensions,
    SizeRecommendation,
    SizeTradeoff,
    TextCounts,
)

TEXTS = {
    "ru": TextCounts(characters=1200, bytes=2400, words=200),
    "en": TextCounts(characters=1000, bytes=1000, words=100),
}
BASE = SizeMeasurement(0, 600, {"ru": 600, "en": 250}, [], 0.0)
LARGER = SizeMeasurement(1000, 1600, {"ru": 400, "en": 250}, [100.0] * 19 + [99.0], 5000.0)
MODEL = ModelDimensions(hidden_size=10, tied=False, num_parameters=100_000, num_embeddings=640)


@pytest.mark.parametrize(
    ("max_size", "expected"),
    [
        (0, []),
        (1, [1]),
        (999, [999]),
        (1000, [1000]),
        (1999, [1000]),
        (2000, [1000, 2000]),
        (3999, [1000, 2000]),
        (64_000, [1000 * 2**i for i in range(7)]),
    ],
)
def test_sizes_double(max_size: int, expected: list[int]) -> None:
    assert candidate_sizes(max_size) == expected


def test_tables_are_padded() -> None:
    assert [pad_vocabulary_size(tokens) for tokens in (1, 64, 65, 128_256)] == [64, 64, 128, 128_256]


def test_later_tokens_are_undone_into_their_parts() -> None:
    parts = {3: (0, 1), 4: (3, 3), 5: (4, 2)}
    counts = compute_counts_at_sizes([1, 0, 2, 1, 1, 2], parts, vocabulary_sizes=[3, 4, 5, 6])
    assert counts == {6: [1, 0, 2, 1, 1, 2], 5: [1, 0, 4, 1, 3], 4: [1, 0, 4, 7], 3: [8, 7, 4]}


@given(data=st.data(), words=st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=8))
def test_counts_at_smaller_sizes_are_those_of_fewer_merges(data: st.DataObject, words: list[str]) -> None:
    names = ["a", "b", "c"]
    merges: dict[tuple[str, str], tuple[int, str]] = {}
    for rank in range(data.draw(st.integers(1, 8))):
        pair = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        if pair not in merges:
            names.append(f"({pair[0]}{pair[1]})")  # a name of its own: two pairs never spell the same token
            merges[pair] = (rank, names[-1])
    parts = {names.index(name): (names.index(a), names.index(b)) for (a, b), (_, name) in merges.items()}

    def count_symbols(count: int) -> list[int]:
        first = dict(list(merges.items())[:count])
        counts = Counter(symbol for word in words for symbol in apply_merges(list(word), first))
        return [counts[name] for name in names[: 3 + count]]

    ends = [3 + count for count in range(len(merges) + 1)]
    assert compute_counts_at_sizes(count_symbols(len(merges)), parts, vocabulary_sizes=ends) == {
        3 + n: count_symbols(n) for n in range(len(merges) + 1)
    }


def test_a_tradeoff_by_hand() -> None:
    base, larger = compute_tradeoffs([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=MODEL)
    assert base.compression == {"ru": LanguageCompression(2.0, 4.0, 3.0), "en": LanguageCompression(4.0, 4.0, 2.5)}
    assert larger.compression == {"ru": LanguageCompression(3.0, 6.0, 2.0), "en": LanguageCompression(4.0, 4.0, 2.5)}
    assert (base.token_reduction, base.prefill_speedup, base.decode_speedup) == (0, 1, 1) and base.cost is not None
    assert (base.cost.parameters, base.cost.bytes, base.cost.parameter_fraction) == (0, 0, 0)
    # 1600 tokens are 1600 rows, 960 more than 640; 93,600 of the 100,000 parameters are read: not embed's 6,400.
    assert larger.token_reduction == pytest.approx(1 / 3) and larger.prefill_speedup == pytest.approx(1.5)
    assert larger.decode_speedup == pytest.approx(1.5 * 93_600 / (93_600 + 9_600))
    assert larger.cost is not None
    assert (larger.cost.parameters, larger.cost.bytes, larger.cost.parameter_fraction) == (19_200, 38_400, 0.192)


def test_tied_embeddings_are_read_and_grow_once() -> None:
    _, larger = compute_tradeoffs([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=replace(MODEL, tied=True))
    assert larger.decode_speedup == pytest.approx(1.5 * 100_000 / 109_600)
    assert larger.cost is not None and larger.cost.parameters == 9_600


def test_a_smaller_vocabulary_costs_less() -> None:
    pruned = replace(LARGER, vocabulary_size=320)
    _, smaller = compute_tradeoffs([BASE, pruned], TEXTS, shares={"ru": 1.0}, model=MODEL)
    assert smaller.cost is not None and smaller.cost.parameters == -6_400
    assert smaller.decode_speedup == pytest.approx(1.5 * 93_600 / 90_400)


def test_without_a_model_only_text_and_prefill_are_known() -> None:
    _, larger = compute_tradeoffs([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=None)
    assert (larger.decode_speedup, larger.cost) == (None, None) and larger.prefill_speedup == pytest.approx(1.5)


def test_languages_are_mixed_by_characters() -> None:
    _, larger = compute_tradeoffs([BASE, LARGER], TEXTS, shares={"ru": 3.0, "en": 1.0}, model=None)
    # Tokens of a mixture of 4 characters: 3/2 + 1/4 before, 3/3 + 1/4 after.
    assert larger.token_reduction == pytest.approx(1 - 1.25 / 1.75)


def test_tokens_are_trained_when_they_occur_a_hundred_times() -> None:
    base, larger = compute_tradeoffs([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=None)
    assert (base.trained_fraction, base.training_tokens_needed) == (0, 0)
    # The rarest of twenty need not be trained.
    assert larger.trained_fraction == 0.95 and larger.training_tokens_needed == 5000
    rare = replace(LARGER, occurrences=[100.0] * 18 + [40.0, 0.0])
    _, tradeoff = compute_tradeoffs([BASE, rare], TEXTS, shares={"ru": 1.0}, model=None)
    assert tradeoff.trained_fraction == 0.9 and tradeoff.training_tokens_needed == 12_500  # 100 / 40 · 5,000
    _, tradeoff = compute_tradeoffs(
        [BASE, replace(rare, occurrences=[0.0] * 20)], TEXTS, shares={"ru": 1.0}, model=None
    )
    assert tradeoff.trained_fraction == 0 and tradeoff.training_tokens_needed is None


def point(new_tokens: int, reduction: float, speedup: float | None = None, trained: float = 1.0) -> SizeTradeoff:
    return SizeTradeoff(
        new_tokens,
        600 + new_tokens,
        {},
        reduction,
        1 / (1 - reduction),
        speedup,
        None,
        trained if new_tokens else 0.0,
        1,
    )


def recommend(*points: SizeTradeoff) -> SizeRecommendation:
    return recommend_size([point(0, 0.0, 1.0), *points])


def test_the_largest_size_that_still_pays_is_taken() -> None:
    # 0.60 → 0.54 → 0.52 of the text: the first doubling saves 10 %, the second 3.7 %.
    assert recommend(point(1000, 0.40), point(2000, 0.46), point(4000, 0.48)) == SizeRecommendation(2000, "text", 4000)


def test_a_doubling_that_saves_at_least_a_twentieth_pays() -> None:
    assert recommend(point(1000, 0.2), point(2000, 0.24)) == SizeRecommendation(2000, "sweep", 2000), "exactly"
    assert recommend(point(1000, 0.40), point(2000, 0.4300001)) == SizeRecommendation(2000, "sweep", 2000)
    assert recommend(point(1000, 0.40), point(2000, 0.4299999)) == SizeRecommendation(1000, "text", 2000)


def test_gains_may_begin_small_and_grow() -> None:
    """Russian with Llama-3's vocabulary: the second doubling alone does not pay."""
    gains = (0.064, 0.096, 0.136, 0.187, 0.242, 0.295, 0.343)
    points = [point(1000 * 2**i, gain) for i, gain in enumerate(gains)]
    assert recommend(*points) == SizeRecommendation(64_000, "sweep", 64_000)


def test_sizes_with_too_many_rare_tokens_do_not_pay() -> None:
    result = recommend(point(1000, 0.4, trained=0.99), point(2000, 0.5, trained=0.95), point(4000, 0.6, trained=0.94))
    assert result == SizeRecommendation(2000, "occurrences", 4000)


def test_sizes_that_slow_generation_do_not_pay() -> None:
    result = recommend(point(1000, 0.4, 1.6), point(2000, 0.5, 1.7), point(4000, 0.6, 1.69), point(8000, 0.7, 1.695))
    assert result == SizeRecommendation(2000, "speed", 4000)


def test_equal_generation_speed_is_not_slower() -> None:
    assert recommend(point(1000, 0.4, 1.0), point(2000, 0.5, 1.0)).new_tokens == 2000
    assert recommend(point(1000, 0.4, 0.999)).limit == "speed"


@pytest.mark.parametrize(
    ("points", "limit", "limiting_size"),
    [
        ([], "covered", 0),
        ([point(1000, 0.08), point(2000, 0.14)], "covered", 2000),
        ([point(1000, 0.10), point(2000, 0.24, trained=0.5), point(4000, 0.3, trained=0.1)], "occurrences", 2000),
        ([point(1000, 0.20, 0.9)], "speed", 1000),
        ([point(1000, 0.08), point(2000, 0.12), point(4000, 0.16)], "text", 4000),
    ],
    ids=["no new token", "covered", "too rare", "too slow", "too little at a time"],
)
def test_do_not_extend(points: list[SizeTradeoff], limit: str, limiting_size: int) -> None:
    result = recommend(*points)
    assert (result.new_tokens, result.limit, result.limiting_size) == (0, limit, limiting_size)


def test_the_text_must_get_shorter_by_fifteen_percent() -> None:
    assert recommend(point(1000, 0.15)).new_tokens == 1000
    assert recommend(point(1000, 0.1499)).new_tokens == 0
