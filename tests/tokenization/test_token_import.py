"""Imported tokens can be reached by merges, and change nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.core.token_bytes import encode_byte_level
from lep.core.vocabulary import TokenKind
from lep.errors import TokenizerError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.merge_continuation import VocabularyExtension, append_tokens
from lep.tokenization.token_import import import_tokens

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


def with_model(base: TokenizerFile, **changes: object) -> TokenizerFile:
    """The base with another model."""
    return TokenizerFile(
        base.path, base.tokenizer_json | {"model": base.tokenizer_json["model"] | changes}, base.scheme
    )


@pytest.fixture(scope="module")
def imported(forms, tokenizers) -> dict[tuple[str, str], tuple[VocabularyExtension, TokenizerFile, TokenizerFile]]:
    """Extension, new tokenizer and source, by base and source."""
    result = {}
    for base, name in PAIRS:
        source = read_tokenizer(tokenizers[name])
        extension = import_tokens(forms[base], source)
        result[base, name] = (extension, append_tokens(forms[base], extension.tokens), source)
    return result


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_each_token_is_one_of_the_source_and_can_be_reached(forms, imported, pair) -> None:
    extension, new, source = imported[pair]
    base, kinds = forms[pair[0]], dict(zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True))
    first = len(base.vocabulary)
    assert len(extension.tokens) > 20
    for id_, new_token in enumerate(extension.tokens, start=first):
        token = new.vocabulary.tokens[id_]
        assert kinds[token] is TokenKind.NORMAL and token not in base.vocabulary.tokens
        assert list(new.segment(token)) == [id_]
        assert b"".join(base.vocabulary.tokens[base_id] for base_id in new_token.base_ids) == token


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_every_token_of_the_source_is_taken_or_counted(forms, imported, pair) -> None:
    extension, _, source = imported[pair]
    normal = {
        token
        for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True)
        if kind is TokenKind.NORMAL
    }
    assert len(extension.tokens) + extension.dropped.total() == len(normal)
    shared = normal & set(forms[pair[0]].vocabulary.tokens)
    assert extension.dropped["the base has it"] == len(shared)


@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
@given(parts=TEXT)
@settings(max_examples=25, deadline=None)
def test_expanding_gives_the_ids_of_the_base(forms, imported, pair, parts) -> None:
    extension, new, _ = imported[pair]
    base, text = forms[pair[0]], " ".join(parts)
    first = len(base.vocabulary)
    expansions = {first + i: token.base_ids for i, token in enumerate(extension.tokens)}
    ids = new.tokenizer.encode(text, add_special_tokens=False).ids
    expanded = [base_id for id_ in ids for base_id in expansions.get(id_, (id_,))]
    assert expanded == base.tokenizer.encode(text, add_special_tokens=False).ids


def test_a_token_waits_for_the_tokens_that_it_is_merged_from(forms) -> None:
    """The source need not be in the order of merges: the longest may come first."""
    source = with_model(forms["pairs"], vocab={"QXZ": 0, "ZQXZQ": 1, "XZ": 2, "ZQ": 3}, merges=[])
    extension = import_tokens(
        forms["pairs"], TokenizerFile(Path("x"), source.tokenizer_json | {"added_tokens": []}, "byte_level")
    )
    assert [(token.text, token.merge) for token in extension.tokens] == [
        ("XZ", ("X", "Z")),
        ("ZQ", ("Z", "Q")),
        ("QXZ", ("Q", "XZ")),
    ]
    assert extension.dropped == {"no two tokens merge into it": 1}


def test_what_cannot_be_a_token_of_the_base_is_counted_by_reason(forms) -> None:
    texts = ["the old", "\N{CYRILLIC SMALL LETTER SHA}".encode()[:1], "профессор"]
    stored = [encode_byte_level(text if isinstance(text, bytes) else text.encode()) for text in texts]
    model = {"vocab": {text: i for i, text in enumerate(stored)}, "merges": []}
    source = TokenizerFile(
        Path("x"), with_model(forms["pairs"], **model).tokenizer_json | {"added_tokens": []}, "byte_level"
    )
    dropped = import_tokens(forms["metaspace"], source).dropped
    assert dropped["more than one word of the base"] == 1 and dropped["the base has it"] >= 1
    dropped = import_tokens(forms["pairs"], source).dropped
    assert dropped["more than one word of the base"] == 1 and dropped["no two tokens merge into it"] == 1


def test_a_token_with_a_byte_that_the_base_lacks_is_dropped(forms) -> None:
    """Byte-level BPE would leave the byte out silently, and the merges would spell something else."""
    state = json.loads(json.dumps(forms["pairs"].tokenizer_json))
    del state["model"]["vocab"][encode_byte_level(b"\xf0")]
    state["model"]["merges"] = [pair for pair in state["model"]["merges"] if "ð" not in "".join(pair)]
    lacking = TokenizerFile(Path("lacking"), state, "byte_level")
    incomplete, complete = encode_byte_level(b"\xf0\x9f\x98"), encode_byte_level(b"\x98\x80")
    model = {"vocab": {incomplete: 0, complete: 1}, "merges": []}
    source = TokenizerFile(Path("x"), with_model(lacking, **model).tokenizer_json | {"added_tokens": []}, "byte_level")
    extension = import_tokens(lacking, source)
    assert [token.text for token in extension.tokens] == [complete]
    assert extension.dropped == {"a byte that the base lacks": 1}
    assert append_tokens(lacking, extension.tokens).tokenizer.encode("Q").ids == lacking.tokenizer.encode("Q").ids


def test_a_base_without_merges_is_refused(tokenizers, forms) -> None:
    with pytest.raises(TokenizerError, match="a Unigram tokenizer without merges cannot be extended"):
        import_tokens(read_tokenizer(tokenizers["sentencepiece_unigram"]), forms["pairs"])
