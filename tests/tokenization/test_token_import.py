"""Foreign pieces become tokens that merges reach, and change nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.core.token_bytes import byte_level_string
from lep.core.vocabulary import Kind
from lep.errors import TokenizerError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.merge_continuation import Additions, extended
from lep.tokenization.token_import import continue_with_pieces

PAIRS = [
    (base, source)
    for base in ("pairs", "tiktoken", "english", "metaspace", "user_defined")
    for source in ("russian_byte_level", "sentencepiece_bpe", "sentencepiece_unigram")
    if (base, source) != ("metaspace", "sentencepiece_bpe")  # the same vocabulary
]
TEXT = st.lists(
    st.text("абвгдежзийклмнопрстуфхцчшщъыьэюяё«»—, .\n12ae€😀", max_size=20)
    | st.sampled_from(["Старый профессор", " удивительную", "дарственный", "ниверсит"])
)


def state_with(base: TokenizerFile, **changes: object) -> TokenizerFile:
    """The base with another model."""
    return TokenizerFile(base.path, base.state | {"model": base.state["model"] | changes}, base.scheme)


@pytest.fixture(scope="module")
def made(forms, tokenizers) -> dict[tuple[str, str], tuple[Additions, TokenizerFile, TokenizerFile]]:
    """Additions, the new tokenizer and the source, by base and source."""
    found = {}
    for base, name in PAIRS:
        source = read_tokenizer(tokenizers[name])
        additions = continue_with_pieces(forms[base], source)
        found[base, name] = (additions, extended(forms[base], additions.tokens), source)
    return found


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_piece_is_one_of_the_sources_and_reachable(forms, made, pair) -> None:
    additions, new, source = made[pair]
    base, known = forms[pair[0]], dict(zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True))
    first = len(base.vocabulary)
    assert len(additions.tokens) > 20
    for id_, addition in enumerate(additions.tokens, start=first):
        token = new.vocabulary.tokens[id_]
        assert known[token] is Kind.NORMAL and token not in base.vocabulary.tokens
        assert list(new.segment(token)) == [id_]
        assert b"".join(base.vocabulary.tokens[piece] for piece in addition.expansion) == token


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_token_of_the_source_is_taken_or_counted(forms, made, pair) -> None:
    additions, _, source = made[pair]
    learnt = {
        token
        for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True)
        if kind is Kind.NORMAL
    }
    assert len(additions.tokens) + additions.dropped.total() == len(learnt)
    own = learnt & set(forms[pair[0]].vocabulary.tokens)
    assert additions.dropped["the base has it"] == len(own)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(parts=TEXT)
@settings(max_examples=25, deadline=None)
def test_expanding_gives_the_ids_of_the_base(forms, made, pair, parts) -> None:
    additions, new, _ = made[pair]
    base, text = forms[pair[0]], " ".join(parts)
    first = len(base.vocabulary)
    expansions = {first + i: addition.expansion for i, addition in enumerate(additions.tokens)}
    ids = new.tokenizer.encode(text, add_special_tokens=False).ids
    expanded = [piece for id_ in ids for piece in expansions.get(id_, (id_,))]
    assert expanded == base.tokenizer.encode(text, add_special_tokens=False).ids


def test_a_piece_waits_for_the_pieces_that_it_is_made_of(forms) -> None:
    """The order of the source is no order of merges: the longest may come first."""
    source = state_with(forms["pairs"], vocab={"QXZ": 0, "ZQXZQ": 1, "XZ": 2, "ZQ": 3}, merges=[])
    found = continue_with_pieces(
        forms["pairs"], TokenizerFile(Path("x"), source.state | {"added_tokens": []}, "byte_level")
    )
    assert [(addition.text, addition.parts) for addition in found.tokens] == [
        ("XZ", ("X", "Z")),
        ("ZQ", ("Z", "Q")),
        ("QXZ", ("Q", "XZ")),
    ]
    assert found.dropped == {"no two tokens merge into it": 1}


def test_what_cannot_be_a_token_of_the_base_is_counted_by_reason(forms) -> None:
    texts = ["the old", "\N{CYRILLIC SMALL LETTER SHA}".encode()[:1], "профессор"]
    stored = [byte_level_string(text if isinstance(text, bytes) else text.encode()) for text in texts]
    model = {"vocab": {text: i for i, text in enumerate(stored)}, "merges": []}
    source = TokenizerFile(Path("x"), state_with(forms["pairs"], **model).state | {"added_tokens": []}, "byte_level")
    dropped = continue_with_pieces(forms["metaspace"], source).dropped
    assert dropped["more than a word to the base"] == 1 and dropped["the base has it"] >= 1
    dropped = continue_with_pieces(forms["pairs"], source).dropped
    assert dropped["more than a word to the base"] == 1 and dropped["no two tokens merge into it"] == 1


def test_a_piece_with_a_byte_that_the_base_lacks_is_dropped(forms) -> None:
    """Byte-level BPE would leave the byte out without a word, and the merges would spell something else."""
    state = json.loads(json.dumps(forms["pairs"].state))
    del state["model"]["vocab"][byte_level_string(b"\xf0")]
    state["model"]["merges"] = [pair for pair in state["model"]["merges"] if "ð" not in "".join(pair)]
    lacking = TokenizerFile(Path("lacking"), state, "byte_level")
    most, whole = byte_level_string(b"\xf0\x9f\x98"), byte_level_string(b"\x98\x80")
    model = {"vocab": {most: 0, whole: 1}, "merges": []}
    source = TokenizerFile(Path("x"), state_with(lacking, **model).state | {"added_tokens": []}, "byte_level")
    found = continue_with_pieces(lacking, source)
    assert [addition.text for addition in found.tokens] == [whole]
    assert found.dropped == {"a byte that the base lacks": 1}
    assert extended(lacking, found.tokens).tokenizer.encode("Q").ids == lacking.tokenizer.encode("Q").ids


def test_a_base_without_merges_is_refused(tokenizers, forms) -> None:
    with pytest.raises(TokenizerError, match="a Unigram tokenizer without merges cannot be continued"):
        continue_with_pieces(read_tokenizer(tokenizers["sentencepiece_unigram"]), forms["pairs"])
