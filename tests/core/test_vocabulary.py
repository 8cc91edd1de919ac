"""T: which tokens are shared, which are segmented and how, and which have no row."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lep.core.vocabulary import TokenKind, Vocabulary, VocabularyMap, build_vocabulary_map

OLD = Vocabulary(
    tokens=[b"a", b"b", b"ab", b"a", b"<s>", b"", b"<x>", b"a"],
    kinds=[
        TokenKind.NORMAL,
        TokenKind.NORMAL,
        TokenKind.NORMAL,
        TokenKind.BYTE_FALLBACK,
        TokenKind.SPECIAL,
        TokenKind.UNUSED,
        TokenKind.NORMAL,
        TokenKind.NORMAL,
    ],
)


def segment(token: bytes) -> Sequence[int]:
    """One byte, one token."""
    return [b"ab".index(byte) for byte in token] if set(token) <= set(b"ab") else []


def segmentations(mapping: VocabularyMap) -> list[list[int]]:
    return [ids.tolist() for ids in mapping.segmentation.tensor_split(mapping.offsets[1:-1])]


def map_to(*entries: tuple[bytes, TokenKind], old: Vocabulary = OLD) -> VocabularyMap:
    new = Vocabulary(tokens=[token for token, _ in entries], kinds=[kind for _, kind in entries])
    return build_vocabulary_map(old=old, new=new, segment=segment)


def test_equal_bytes_and_kind_are_shared_with_the_lowest_id() -> None:
    mapping = map_to(
        (b"ab", TokenKind.NORMAL),
        (b"a", TokenKind.NORMAL),
        (b"a", TokenKind.BYTE_FALLBACK),
        (b"<s>", TokenKind.SPECIAL),
    )
    assert mapping.shared.tolist() == [True] * 4
    assert segmentations(mapping) == [[2], [0], [3], [4]]


def test_a_fallback_byte_and_a_one_byte_token_are_shared() -> None:
    old = Vocabulary(tokens=[b"a", b"b"], kinds=[TokenKind.BYTE_FALLBACK, TokenKind.NORMAL])
    mapping = map_to((b"a", TokenKind.NORMAL), (b"b", TokenKind.BYTE_FALLBACK), old=old)
    assert mapping.shared.tolist() == [True, True]
    assert segmentations(mapping) == [[0], [1]]


def test_segmentations_keep_order_and_multiplicity() -> None:
    mapping = map_to((b"aba", TokenKind.NORMAL), (b"aab", TokenKind.NORMAL))
    assert segmentations(mapping) == [[0, 1, 0], [0, 0, 1]]
    assert not mapping.shared.any()


def test_special_tokens_are_never_composed_nor_shared_with_text() -> None:
    mapping = map_to(
        (b"ab", TokenKind.SPECIAL), (b"<x>", TokenKind.SPECIAL), (b"<s>", TokenKind.NORMAL), (b"<s>", TokenKind.SPECIAL)
    )
    assert mapping.missing.tolist() == [0, 1, 2]
    assert mapping.shared.tolist() == [False, False, False, True]


def test_unused_ids_and_what_cannot_be_segmented_have_no_row() -> None:
    mapping = map_to((b"", TokenKind.UNUSED), (b"ac", TokenKind.NORMAL), (b"b", TokenKind.NORMAL))
    assert mapping.missing.tolist() == [0, 1]
    assert mapping.lengths.tolist() == [0, 0, 1]


def test_a_segmentation_of_other_bytes_is_an_error_that_names_the_token() -> None:
    new = Vocabulary(tokens=[b"ba"], kinds=[TokenKind.NORMAL])
    with pytest.raises(ValueError, match=r"b'ba' has the bytes b'ab'"):
        build_vocabulary_map(old=OLD, new=new, segment=lambda token: [0, 1])


def test_a_vocabulary_needs_a_kind_for_each_token() -> None:
    with pytest.raises(ValueError, match="2 tokens but 1 kinds"):
        Vocabulary(tokens=[b"a", b"b"], kinds=[TokenKind.NORMAL])


@given(st.lists(st.text("abc", min_size=1, max_size=4).map(str.encode), min_size=1, max_size=12), st.randoms())
def test_permuting_the_new_vocabulary_permutes_the_rows(tokens: list[bytes], random) -> None:
    order = list(range(len(tokens)))
    random.shuffle(order)
    straight = map_to(*((token, TokenKind.NORMAL) for token in tokens))
    permuted = map_to(*((tokens[i], TokenKind.NORMAL) for i in order))
    assert segmentations(permuted) == [segmentations(straight)[i] for i in order]
    assert permuted.shared.tolist() == [straight.shared.tolist()[i] for i in order]


def test_average_is_the_mean_with_multiplicity() -> None:
    mapping = map_to((b"ab", TokenKind.NORMAL), (b"aba", TokenKind.NORMAL), (b"b", TokenKind.NORMAL))
    embeddings = torch.randn(len(OLD), 3)
    expected = torch.stack([embeddings[2], (2 * embeddings[0] + embeddings[1]) / 3, embeddings[1]]).double()
    for ids in ([0, 1, 2], [1, 2], [0], [2, 1, 1], [2, 2]):
        rows = mapping.average_rows(embeddings, torch.tensor(ids), dtype=torch.float64)
        assert torch.allclose(rows, expected[ids], rtol=1e-6)


def test_excluding_tokens_keeps_the_rows_of_the_others() -> None:
    mapping = map_to(
        (b"ab", TokenKind.NORMAL), (b"aba", TokenKind.NORMAL), (b"b", TokenKind.NORMAL), (b"bab", TokenKind.NORMAL)
    )
    fewer = mapping.exclude(torch.tensor([0, 3]))
    assert fewer.missing.tolist() == [0, 3] and fewer.shared.tolist() == [False, False, True, False]
    assert segmentations(fewer) == [[], segmentations(mapping)[1], segmentations(mapping)[2], []]
