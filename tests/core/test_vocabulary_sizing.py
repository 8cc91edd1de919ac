"""The advice on a vocabulary's size, by hand: what sizes bring and cost, and what is recommended."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lep.core.bpe import merge
from lep.core.vocabulary_sizing import (
    Density,
    Model,
    Point,
    Recommendation,
    Size,
    Text,
    counts_at,
    doublings,
    padded,
    recommend,
    weigh,
)

TEXTS = {"ru": Text(symbols=1200, bytes=2400, words=200), "en": Text(symbols=1000, bytes=1000, words=100)}
BASE = Size(0, 600, {"ru": 600, "en": 250}, [], 0.0)
LARGER = Size(1000, 1600, {"ru": 400, "en": 250}, [100.0] * 19 + [99.0], 5000.0)
MODEL = Model(width=10, tied=False, parameters=100_000, rows=640)


@pytest.mark.parametrize(
    ("most", "expected"),
    [(0, []), (1, [1]), (999, [999]), (1000, [1000]), (3999, [1000, 2000]), (64_000, [1000 * 2**i for i in range(7)])],
)
def test_sizes_double(most: int, expected: list[int]) -> None:
    assert doublings(most) == expected


def test_tables_are_padded() -> None:
    assert [padded(tokens) for tokens in (1, 64, 65, 128_256)] == [64, 64, 128, 128_256]


def test_later_tokens_are_undone_into_their_parts() -> None:
    parts = {3: (0, 1), 4: (3, 3), 5: (4, 2)}
    found = counts_at([1, 0, 2, 1, 1, 2], parts, ends=[3, 4, 5, 6])
    assert found == {6: [1, 0, 2, 1, 1, 2], 5: [1, 0, 4, 1, 3], 4: [1, 0, 4, 7], 3: [8, 7, 4]}


@given(data=st.data(), words=st.lists(st.text("abc", min_size=1, max_size=12), min_size=1, max_size=8))
def test_undone_counts_are_those_of_fewer_merges(data: st.DataObject, words: list[str]) -> None:
    names = ["a", "b", "c"]
    rules: dict[tuple[str, str], tuple[int, str]] = {}
    for rank in range(data.draw(st.integers(1, 8))):
        pair = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
        if pair not in rules:
            names.append(f"({pair[0]}{pair[1]})")  # a name of its own: two pairs never spell the same token
            rules[pair] = (rank, names[-1])
    parts = {names.index(name): (names.index(a), names.index(b)) for (a, b), (_, name) in rules.items()}

    def counted(count: int) -> list[int]:
        first = dict(list(rules.items())[:count])
        uses = Counter(unit for word in words for unit in merge(list(word), first))
        return [uses[name] for name in names[: 3 + count]]

    ends = [3 + count for count in range(len(rules) + 1)]
    assert counts_at(counted(len(rules)), parts, ends=ends) == {3 + n: counted(n) for n in range(len(rules) + 1)}


def test_a_size_is_weighed_by_hand() -> None:
    base, larger = weigh([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=MODEL)
    assert base.languages == {"ru": Density(2.0, 4.0, 3.0), "en": Density(4.0, 4.0, 2.5)}
    assert larger.languages == {"ru": Density(3.0, 6.0, 2.0), "en": Density(4.0, 4.0, 2.5)}
    assert (base.shorter, base.prefill, base.generation) == (0, 1, 1) and base.cost is not None
    assert (base.cost.parameters, base.cost.bytes, base.cost.share) == (0, 0, 0)
    # 1600 tokens are 1600 rows, 960 more than 640; 93,600 of the 100,000 parameters are read: not embed's 6,400.
    assert larger.shorter == pytest.approx(1 / 3) and larger.prefill == pytest.approx(1.5)
    assert larger.generation == pytest.approx(1.5 * 93_600 / (93_600 + 9_600))
    assert larger.cost is not None
    assert (larger.cost.parameters, larger.cost.bytes, larger.cost.share) == (19_200, 38_400, 0.192)


def test_one_table_is_read_whole_and_grows_once() -> None:
    _, larger = weigh([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=replace(MODEL, tied=True))
    assert larger.generation == pytest.approx(1.5 * 100_000 / 109_600)
    assert larger.cost is not None and larger.cost.parameters == 9_600


def test_a_smaller_vocabulary_costs_less() -> None:
    cut = replace(LARGER, vocabulary_size=320)
    _, smaller = weigh([BASE, cut], TEXTS, shares={"ru": 1.0}, model=MODEL)
    assert smaller.cost is not None and smaller.cost.parameters == -6_400
    assert smaller.generation == pytest.approx(1.5 * 93_600 / 90_400)


def test_without_a_model_only_text_and_prefill_are_known() -> None:
    _, larger = weigh([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=None)
    assert (larger.generation, larger.cost) == (None, None) and larger.prefill == pytest.approx(1.5)


def test_languages_are_mixed_by_symbols() -> None:
    _, larger = weigh([BASE, LARGER], TEXTS, shares={"ru": 3.0, "en": 1.0}, model=None)
    # Tokens of a mixture of 4 symbols: 3/2 + 1/4 before, 3/3 + 1/4 after.
    assert larger.shorter == pytest.approx(1 - 1.25 / 1.75)


def test_tokens_are_learnt_when_they_are_seen_a_hundred_times() -> None:
    _, larger = weigh([BASE, LARGER], TEXTS, shares={"ru": 1.0}, model=None)
    assert larger.learnt == 0.95 and larger.enough == 5000  # the rarest of twenty need not be learnt
    rare = replace(LARGER, occurrences=[100.0] * 18 + [40.0, 0.0])
    _, found = weigh([BASE, rare], TEXTS, shares={"ru": 1.0}, model=None)
    assert found.learnt == 0.9 and found.enough == 12_500  # 100 / 40 · 5,000
    _, found = weigh([BASE, replace(rare, occurrences=[0.0] * 20)], TEXTS, shares={"ru": 1.0}, model=None)
    assert found.learnt == 0 and found.enough is None


def point(new_tokens: int, shorter: float, generation: float | None = None, learnt: float = 1.0) -> Point:
    return Point(
        new_tokens, 600 + new_tokens, {}, shorter, 1 / (1 - shorter), generation, None, learnt if new_tokens else 0.0, 1
    )


def advice(*points: Point) -> Recommendation:
    return recommend([point(0, 0.0, 1.0), *points])


def test_the_largest_size_that_still_pays_is_taken() -> None:
    # 0.60 → 0.54 → 0.52 of the text: the first doubling saves 10 %, the second 3.7 %.
    assert advice(point(1000, 0.40), point(2000, 0.46), point(4000, 0.48)) == Recommendation(2000, "text", 4000)


def test_a_doubling_that_saves_a_twentieth_pays() -> None:
    assert advice(point(1000, 0.40), point(2000, 0.4300001)) == Recommendation(2000, "sweep", 2000)
    assert advice(point(1000, 0.40), point(2000, 0.4299999)) == Recommendation(1000, "text", 2000)


def test_gains_that_begin_small_and_grow_are_waited_for() -> None:
    """Russian with Llama-3's vocabulary: the second doubling alone would say stop."""
    gains = (0.064, 0.096, 0.136, 0.187, 0.242, 0.295, 0.343)
    points = [point(1000 * 2**i, gain) for i, gain in enumerate(gains)]
    assert advice(*points) == Recommendation(64_000, "sweep", 64_000)


def test_tokens_too_rare_to_be_learnt_are_not_taken() -> None:
    found = advice(point(1000, 0.4, learnt=0.99), point(2000, 0.5, learnt=0.95), point(4000, 0.6, learnt=0.94))
    assert found == Recommendation(2000, "occurrences", 4000)


def test_a_head_that_slows_generation_is_not_taken() -> None:
    found = advice(point(1000, 0.4, 1.6), point(2000, 0.5, 1.7), point(4000, 0.6, 1.69), point(8000, 0.7, 1.695))
    assert found == Recommendation(2000, "speed", 4000)


@pytest.mark.parametrize(
    ("points", "limit", "at"),
    [
        ([], "covered", 0),
        ([point(1000, 0.08), point(2000, 0.14)], "covered", 2000),
        ([point(1000, 0.10), point(2000, 0.24, learnt=0.5), point(4000, 0.3, learnt=0.1)], "occurrences", 2000),
        ([point(1000, 0.20, 0.9)], "speed", 1000),
        ([point(1000, 0.08), point(2000, 0.12), point(4000, 0.16)], "text", 4000),
    ],
    ids=["nothing learnt", "covered", "too rare", "too slow", "too little at a time"],
)
def test_do_not_extend(points: list[Point], limit: str, at: int) -> None:
    found = advice(*points)
    assert (found.new_tokens, found.limit, found.at) == (0, limit, at)


def test_a_seventh_of_the_text_is_worth_it() -> None:
    assert advice(point(1000, 0.15)).new_tokens == 1000
    assert advice(point(1000, 0.1499)).new_tokens == 0
