"""Merging does what the rule says, and what `tokenizers` does."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from lep.core.bpe import merge, parts

RULES = {("a", "b"): (0, "ab"), ("b", "c"): (1, "bc"), ("ab", "c"): (2, "abc"), ("a", "a"): (3, "aa")}


def test_the_earliest_rule_goes_first_and_leftmost_first() -> None:
    assert merge("abc", RULES) == ["abc"]
    assert merge("bbc", RULES) == ["b", "bc"]
    assert merge("aaa", RULES) == ["aa", "a"]
    assert merge("xyz", RULES) == ["x", "y", "z"]
    assert merge("", RULES) == []


def test_units_may_be_numbers() -> None:
    assert merge([1, 2, 3], {(2, 3): (0, 5), (1, 5): (1, 6)}) == [6]


def test_parts_are_those_of_the_last_merge() -> None:
    assert parts("abc", RULES) == ("ab", "c")
    assert parts("aa", RULES) == ("a", "a")
    assert parts("bbc", RULES) is None, "it does not become one unit"
    assert parts("a", RULES) is None, "nothing merges into it"
    assert parts("", RULES) is None


@given(
    pairs=st.lists(st.tuples(*[st.text("abc", min_size=1, max_size=3)] * 2), max_size=12, unique=True),
    text=st.text("abc", max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_merging_is_that_of_tokenizers(pairs, text) -> None:
    """Only pairs whose parts are there by then, and one for each spelling, as in a list that was learnt."""
    known = {"a": 0, "b": 1, "c": 2}
    kept = []
    for pair in pairs:
        if {*pair} <= known.keys() and "".join(pair) not in known:
            known["".join(pair)] = len(known)
            kept.append(pair)
    rules = {pair: (rank, "".join(pair)) for rank, pair in enumerate(kept)}
    own = Tokenizer(models.BPE(vocab=known, merges=kept))
    merged = merge(text, rules)
    assert merged == own.encode(text).tokens
    assert (parts(text, rules) is not None) == (len(merged) == 1 and len(text) > 1)
