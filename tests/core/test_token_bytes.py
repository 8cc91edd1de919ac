"""The bytes of a token are restored exactly from both schemes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lep.core.token_bytes import (
    build_byte_alphabet,
    decode_byte_level,
    decode_sentencepiece,
    encode_byte_level,
    is_byte_piece,
    split_utf8_runs,
)


def test_byte_alphabet_is_the_one_that_the_tokenizers_library_uses() -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    assert sorted(build_byte_alphabet()) == sorted(ByteLevel.alphabet())
    assert sorted(build_byte_alphabet().values()) == list(range(256))
    assert ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str("\n жé€😀")[0][0] == encode_byte_level(
        "\n жé€😀".encode()
    )


@given(st.binary())
def test_byte_level_round_trip(token: bytes) -> None:
    assert decode_byte_level(encode_byte_level(token)) == token


def test_byte_level_refuses_a_foreign_character() -> None:
    with pytest.raises(ValueError, match="ж"):
        decode_byte_level("aж")


def test_byte_pieces_are_one_byte_each() -> None:
    for byte in range(256):
        assert is_byte_piece(f"<0x{byte:02X}>")
        assert decode_sentencepiece(f"<0x{byte:02X}>") == bytes([byte])


@pytest.mark.parametrize("stored", ["<0x0>", "<0x000>", "<0xGG>", "a<0x00>", "<0x00>a", "<s>"])
def test_what_only_resembles_a_byte_piece_is_text(stored: str) -> None:
    assert not is_byte_piece(stored)
    assert decode_sentencepiece(stored) == stored.encode()


def test_sentencepiece_space_is_a_space_everywhere() -> None:
    assert decode_sentencepiece("▁по▁▁два") == " по  два".encode()


@given(st.binary() | st.text().map(str.encode))
def test_runs_reassemble_and_are_maximal(token: bytes) -> None:
    runs = list(split_utf8_runs(token))
    assert b"".join(run for run, _ in runs) == token
    assert all(run.decode() for run, is_text in runs if is_text)
    assert all(len(run) == 1 for run, is_text in runs if not is_text)
    assert not any(a and b for (_, a), (_, b) in pairwise(runs)), "two text runs in a row"


@given(st.text(min_size=1))
def test_text_is_one_run(text: str) -> None:
    assert list(split_utf8_runs(text.encode())) == [(text.encode(), True)]


def test_a_character_cut_in_two_is_stray_bytes() -> None:
    cut = "жа".encode()[1:] + "😀".encode()[:3]
    assert list(split_utf8_runs(cut)) == [
        (b"\xb6", False),
        ("а".encode(), True),
        (b"\xf0", False),
        (b"\x9f", False),
        (b"\x98", False),
    ]
