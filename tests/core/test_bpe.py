"""Merging follows the rule, and agrees with `tokenizers`."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from lep.core.bpe import apply_merges, find_last_merge

MERGES = {("a", "b"): (0, "ab"), ("b", "c"): (1, "bc"), ("ab", "c"): (2, "abc"), ("a", "a"): (3, "aa")}


def test_the_lowest_rank_is_merged_first_and_leftmost_first() -> None:
    assert apply_merges("abc", MERGES) == ["abc"]
    assert apply_merges("bbc", MERGES) == ["b", "bc"]
    assert apply_merges("aaa", MERGES) == ["aa", "a"]
    assert apply_merges("xyz", MERGES) == ["x", "y", "z"]
    assert apply_merges("", MERGES) == []


def test_symbols_may_be_numbers() -> None:
    assert apply_merges([1, 2, 3], {(2, 3): (0, 5), (1, 5): (1, 6)}) == [6]


def test_the_last_merge_is_found_if_one_symbol_remains() -> None:
    assert find_last_merge("abc", MERGES) == ("ab", "c")
    assert find_last_merge("aa", MERGES) == ("a", "a")
    assert find_last_merge("bbc", MERGES) is None, "two symbols remain"
    assert find_last_merge("a", MERGES) is None, "there is no merge"
    assert find_last_merge("", MERGES) is None


@given(
    pairs=st.lists(st.tuples(*[st.text("abc", min_size=1, max_size=3)] * 2), max_size=12, unique=True),
    text=st.text("abc", max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_merging_is_that_of_tokenizers(pairs, text) -> None:
    """Only pairs whose parts exist by then, and one per spelling, as in a learned list."""
    vocab = {"a": 0, "b": 1, "c": 2}
    pairs_in_order = []
    for pair in pairs:
        if {*pair} <= vocab.keys() and "".join(pair) not in vocab:
            vocab["".join(pair)] = len(vocab)
            pairs_in_order.append(pair)
    merges = {pair: (rank, "".join(pair)) for rank, pair in enumerate(pairs_in_order)}
    reference = Tokenizer(models.BPE(vocab=vocab, merges=pairs_in_order))
    merged = apply_merges(text, merges)
    assert merged == reference.encode(text).tokens
    assert (find_last_merge(text, merges) is not None) == (len(merged) == 1 and len(text) > 1)
