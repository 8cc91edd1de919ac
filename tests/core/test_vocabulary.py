"""T: what is shared, what is composed and of what, and what is neither."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lep.core.vocabulary import Kind, Vocabulary, VocabularyMap, vocabulary_map

OLD = Vocabulary(
    tokens=[b"a", b"b", b"ab", b"a", b"<s>", b"", b"<x>", b"a"],
    kinds=[Kind.NORMAL, Kind.NORMAL, Kind.NORMAL, Kind.BYTE, Kind.SPECIAL, Kind.HOLE, Kind.NORMAL, Kind.NORMAL],
)


def segment(token: bytes) -> Sequence[int]:
    """One byte, one token."""
    return [b"ab".index(byte) for byte in token] if set(token) <= set(b"ab") else []


def pieces_of(found: VocabularyMap) -> list[list[int]]:
    return [piece.tolist() for piece in found.pieces.tensor_split(found.offsets[1:-1])]


def mapped(*entries: tuple[bytes, Kind], old: Vocabulary = OLD) -> VocabularyMap:
    new = Vocabulary(tokens=[token for token, _ in entries], kinds=[kind for _, kind in entries])
    return vocabulary_map(old=old, new=new, segment=segment)


def test_equal_bytes_and_sort_are_shared_with_the_lowest_id() -> None:
    found = mapped((b"ab", Kind.NORMAL), (b"a", Kind.NORMAL), (b"a", Kind.BYTE), (b"<s>", Kind.SPECIAL))
    assert found.shared.tolist() == [True] * 4
    assert pieces_of(found) == [[2], [0], [3], [4]]


def test_byte_piece_and_one_byte_token_stand_in_for_each_other() -> None:
    old = Vocabulary(tokens=[b"a", b"b"], kinds=[Kind.BYTE, Kind.NORMAL])
    found = mapped((b"a", Kind.NORMAL), (b"b", Kind.BYTE), old=old)
    assert found.shared.tolist() == [True, True]
    assert pieces_of(found) == [[0], [1]]


def test_pieces_keep_order_and_multiplicity() -> None:
    found = mapped((b"aba", Kind.NORMAL), (b"aab", Kind.NORMAL))
    assert pieces_of(found) == [[0, 1, 0], [0, 0, 1]]
    assert not found.shared.any()


def test_special_tokens_are_never_composed_nor_shared_with_text() -> None:
    found = mapped((b"ab", Kind.SPECIAL), (b"<x>", Kind.SPECIAL), (b"<s>", Kind.NORMAL), (b"<s>", Kind.SPECIAL))
    assert found.missing.tolist() == [0, 1, 2]
    assert found.shared.tolist() == [False, False, False, True]


def test_holes_and_what_cannot_be_spelt_have_no_row() -> None:
    found = mapped((b"", Kind.HOLE), (b"ac", Kind.NORMAL), (b"b", Kind.NORMAL))
    assert found.missing.tolist() == [0, 1]
    assert found.lengths.tolist() == [0, 0, 1]


def test_wrong_spelling_is_an_error_that_names_the_token() -> None:
    new = Vocabulary(tokens=[b"ba"], kinds=[Kind.NORMAL])
    with pytest.raises(ValueError, match=r"b'ba' spell b'ab'"):
        vocabulary_map(old=OLD, new=new, segment=lambda token: [0, 1])


def test_a_vocabulary_needs_a_kind_for_each_token() -> None:
    with pytest.raises(ValueError, match="2 tokens but 1 kinds"):
        Vocabulary(tokens=[b"a", b"b"], kinds=[Kind.NORMAL])


@given(st.lists(st.text("abc", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=12), st.randoms())
def test_permuting_the_new_vocabulary_permutes_the_rows(tokens: list[bytes], chance) -> None:
    order = list(range(len(tokens)))
    chance.shuffle(order)
    straight = mapped(*((token, Kind.NORMAL) for token in tokens))
    permuted = mapped(*((tokens[i], Kind.NORMAL) for i in order))
    assert pieces_of(permuted) == [pieces_of(straight)[i] for i in order]
    assert permuted.shared.tolist() == [straight.shared.tolist()[i] for i in order]


def test_average_is_the_mean_with_multiplicity() -> None:
    found = mapped((b"ab", Kind.NORMAL), (b"aba", Kind.NORMAL), (b"b", Kind.NORMAL))
    table = torch.randn(len(OLD), 3)
    expected = torch.stack([table[2], (2 * table[0] + table[1]) / 3, table[1]]).double()
    for ids in ([0, 1, 2], [1, 2], [0], [2, 1, 1], [2, 2]):
        rows = found.average(table, torch.tensor(ids), dtype=torch.float64)
        assert torch.allclose(rows, expected[ids], rtol=1e-6)


def test_without_some_tokens_the_others_stay_as_they_were() -> None:
    found = mapped((b"ab", Kind.NORMAL), (b"aba", Kind.NORMAL), (b"b", Kind.NORMAL), (b"bab", Kind.NORMAL))
    less = found.without(torch.tensor([0, 3]))
    assert less.missing.tolist() == [0, 3] and less.shared.tolist() == [False, False, True, False]
    assert pieces_of(less) == [[], pieces_of(found)[1], pieces_of(found)[2], []]
