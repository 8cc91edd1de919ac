"""Tokenizers of every family as bytes: vocabulary, segmentation, and T between any two of them."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from itertools import permutations
from pathlib import Path

import pytest
import tiktoken
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from lep.core.token_bytes import encode_byte_level
from lep.core.vocabulary import TokenKind, Vocabulary
from lep.errors import TokenizerError
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer

LEARNT = (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK)
BYTE_LEVEL = ("byte_level", "russian_byte_level", "tiktoken")
SENTENCEPIECE = ("sentencepiece_bpe", "sentencepiece_unigram", "metaspace")
FAMILIES = (*BYTE_LEVEL, *SENTENCEPIECE)
WITHIN_FIXTURES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@cache
def read(folder: Path) -> TokenizerFile:
    return read_tokenizer(folder)


def spelt(tokenizer: TokenizerFile, ids) -> bytes:
    return b"".join(tokenizer.vocabulary.tokens[id_] for id_ in ids)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_byte_is_in_the_vocabulary_with_its_kind(tokenizers, family) -> None:
    tokenizer = read(tokenizers[family])
    tokens, kinds = tokenizer.vocabulary.tokens, tokenizer.vocabulary.kinds
    sort = TokenKind.BYTE_FALLBACK if family in SENTENCEPIECE else TokenKind.NORMAL
    assert {token[0] for token, kind in zip(tokens, kinds, strict=True) if kind is sort and len(token) == 1} == set(
        range(256)
    )
    specials = {"tiktoken": 0}.get(family, 3)
    assert sum(kind is TokenKind.SPECIAL for kind in kinds) == specials
    assert TokenKind.UNUSED not in kinds


@pytest.mark.parametrize("family", BYTE_LEVEL)
def test_byte_level_vocabulary_is_what_the_decoder_writes(tokenizers, family) -> None:
    tokenizer = read(tokenizers[family])
    for id_, (token, kind) in enumerate(zip(tokenizer.vocabulary.tokens, tokenizer.vocabulary.kinds, strict=True)):
        if kind is TokenKind.NORMAL:
            assert tokenizer.tokenizer.decode([id_]) == token.decode(errors="replace")


@pytest.mark.parametrize("family", ["sentencepiece_bpe", "sentencepiece_unigram"])
def test_sentencepiece_vocabulary_is_that_of_sentencepiece(tokenizers, family) -> None:
    tokenizer = read(tokenizers[family])
    processor = SentencePieceProcessor(model_file=str(tokenizer.path))
    for id_, (token, kind) in enumerate(zip(tokenizer.vocabulary.tokens, tokenizer.vocabulary.kinds, strict=True)):
        assert (kind is TokenKind.BYTE_FALLBACK) == processor.is_byte(id_)
        assert (kind is TokenKind.SPECIAL) == (processor.is_control(id_) or processor.is_unknown(id_))
        if kind is TokenKind.NORMAL:
            assert token == processor.id_to_piece(id_).replace("▁", " ").encode()


def test_tiktoken_vocabulary_is_the_file(tokenizers) -> None:
    from tiktoken.load import load_tiktoken_bpe

    tokenizer = read(tokenizers["tiktoken"])
    ranks = load_tiktoken_bpe(str(tokenizer.path))
    assert [*ranks] == list(tokenizer.vocabulary.tokens)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_learned_token_is_segmented_into_itself(tokenizers, family) -> None:
    """Only tokens that the model reaches at all: BPE cannot reach a token that no merges make."""
    tokenizer = read(tokenizers[family])
    vocabulary = tokenizer.vocabulary
    assert all(
        spelt(tokenizer, tokenizer.segment(token)) == token
        for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
        if kind in LEARNT
    )
    whole = [
        list(tokenizer.segment(token)) == [id_]
        for id_, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
        if kind is TokenKind.NORMAL
    ]
    assert sum(whole) > 0.9 * len(whole)


@pytest.mark.parametrize("family", FAMILIES)
@given(text=st.text() | st.sampled_from(["Старый профессор", "▁▁", " ▁a", "a\u0301", "<s>", "<|im_start|>", "<0x41>"]))
@WITHIN_FIXTURES
def test_text_is_segmented_exactly(tokenizers, family, text) -> None:
    tokenizer = read(tokenizers[family])
    assert spelt(tokenizer, tokenizer.segment(text.encode())) == text.encode()


@pytest.mark.parametrize("family", FAMILIES)
@given(token=st.binary(max_size=12))
@WITHIN_FIXTURES
def test_any_bytes_are_segmented_exactly(tokenizers, family, token) -> None:
    tokenizer = read(tokenizers[family])
    assert spelt(tokenizer, tokenizer.segment(token)) == token


@pytest.mark.parametrize("family", FAMILIES)
def test_literal_special_text_is_segmented_as_text(tokenizers, family) -> None:
    tokenizer = read(tokenizers[family])
    for text in (*tokenizer.added_tokens, "<unk>", "<|im_end|>"):
        ids = tokenizer.segment(text.encode())
        assert ids and all(tokenizer.vocabulary.kinds[id_] in LEARNT for id_ in ids)


@pytest.mark.parametrize("family", ["sentencepiece_bpe", "sentencepiece_unigram"])
def test_segmentation_is_sentencepieces_own(tokenizers, texts, family) -> None:
    """SentencePiece writes a space before the text; `segment` adds no byte, so it is given one."""
    tokenizer = read(tokenizers[family])
    processor = SentencePieceProcessor(model_file=str(tokenizer.path))
    for text in [*texts["ru"][:200], *texts["en"][:200], "Щёлк 😀 €5", "naïve  ▏x"]:
        assert list(tokenizer.segment(f" {text}".encode())) == processor.encode(text)


def test_segmentation_is_tiktokens_own(tokenizers, texts) -> None:
    from tiktoken.load import load_tiktoken_bpe

    tokenizer = read(tokenizers["tiktoken"])
    pattern = next(
        part["pattern"]["Regex"]
        for part in tokenizer.tokenizer_json["pre_tokenizer"]["pretokenizers"]
        if part["type"] == "Split"
    )
    encoding = tiktoken.Encoding(
        "own", pat_str=pattern, mergeable_ranks=load_tiktoken_bpe(str(tokenizer.path)), special_tokens={}
    )
    for text in [*texts["ru"][:200], *texts["en"][:200], "Щёлк 😀 €5\n\n  x"]:
        assert list(tokenizer.segment(text.encode())) == encoding.encode(text)


@pytest.mark.parametrize("family", ["byte_level", "metaspace"])
def test_segmentation_is_the_tokenizers_own(tokenizers, texts, family) -> None:
    tokenizer = read(tokenizers[family])
    space = " " if family == "metaspace" else ""
    for text in [*texts["ru"][:200], *texts["en"][:200]]:
        expected = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
        assert list(tokenizer.segment(f"{space}{text}".encode())) == expected


@pytest.mark.parametrize(("old", "new"), permutations(FAMILIES, 2))
def test_maps_between_all_families_are_exact(tokenizers, old, new) -> None:
    source, target = read(tokenizers[old]), read(tokenizers[new])
    mapping = map_vocabularies(source, target)
    pieces = [part.tolist() for part in mapping.segmentation.tensor_split(mapping.offsets[1:-1])]
    texts_of = {
        token for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True) if kind in LEARNT
    }
    for id_, (token, kind) in enumerate(zip(target.vocabulary.tokens, target.vocabulary.kinds, strict=True)):
        if kind in LEARNT:
            assert spelt(source, pieces[id_]) == token
            assert bool(mapping.shared[id_]) == (token in texts_of)
        else:
            assert bool(mapping.shared[id_]) == (
                token.decode() in {**source.added_tokens, "<unk>": 0} and bool(pieces[id_])
            )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_vocabulary_mapped_to_itself_is_shared(tokenizers, family) -> None:
    tokenizer = read(tokenizers[family])
    mapping = map_vocabularies(tokenizer, tokenizer)
    tokens = tokenizer.vocabulary.tokens
    assert mapping.shared.all() and mapping.lengths.eq(1).all()
    assert [tokens[id_] for id_ in mapping.segmentation.tolist()] == list(tokens)


def test_special_tokens_are_shared_by_their_text(tokenizers) -> None:
    old, new = read(tokenizers["byte_level"]), read(tokenizers["russian_byte_level"])
    mapping = map_vocabularies(old, new)
    for text, id_ in new.added_tokens.items():
        assert mapping.segmentation[mapping.offsets[id_]] == old.added_tokens[text]


def test_bytes_that_the_vocabulary_lacks_have_no_segmentation(tokenizers) -> None:
    """SmolLM2 lacks 21 bytes; byte-level BPE would leave them out without a word."""
    full = read(tokenizers["byte_level"])
    state = json.loads(json.dumps(full.tokenizer_json))
    del state["model"]["vocab"][encode_byte_level(b"\xc0")]
    lacking = TokenizerFile(full.path, state, full.scheme)
    assert list(lacking.segment(b"a\xc0b")) == list(lacking.segment(b"\xc0")) == []
    assert spelt(lacking, lacking.segment(b"ab\xc1")) == b"ab\xc1"
    mapping = map_vocabularies(lacking, full)
    assert mapping.missing.tolist() == [full.tokenizer_json["model"]["vocab"][encode_byte_level(b"\xc0")]]


@pytest.mark.parametrize("family", ["sentencepiece_bpe", "sentencepiece_unigram"])
def test_a_literal_lower_block_is_not_a_space(tokenizers, family) -> None:
    """`▁` in a byte-level vocabulary is that character; SentencePiece can spell it only byte by byte."""
    old = read(tokenizers[family])
    literal = read(tokenizers["byte_level"])
    state = json.loads(json.dumps(literal.tokenizer_json))
    state["model"]["vocab"][encode_byte_level(" ▁▁".encode())] = len(literal.vocabulary)
    mapping = map_vocabularies(old, TokenizerFile(literal.path, state, literal.scheme))
    assert spelt(old, mapping.segmentation[mapping.offsets[-2] :].tolist()) == " ▁▁".encode()


def test_segmentation_adds_no_prefix_space(tokenizers) -> None:
    state = json.loads(json.dumps(read(tokenizers["byte_level"]).tokenizer_json))
    state["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = True
    tokenizer = TokenizerFile(Path("x"), state, "byte_level")
    assert spelt(tokenizer, tokenizer.tokenizer.encode("the sea").ids) == b" the sea"
    assert spelt(tokenizer, tokenizer.segment(b"the sea")) == b"the sea"


def test_gaps_between_ids_are_unused(tokenizers) -> None:
    state = json.loads(json.dumps(read(tokenizers["byte_level"]).tokenizer_json))
    size = len(state["model"]["vocab"])
    state["added_tokens"].append(state["added_tokens"][0] | {"id": size + 2, "content": "<|late|>"})
    vocabulary: Vocabulary = TokenizerFile(Path("x"), state, "byte_level").vocabulary
    assert [vocabulary.kinds[id_] for id_ in range(size, size + 3)] == [
        TokenKind.UNUSED,
        TokenKind.UNUSED,
        TokenKind.SPECIAL,
    ]
    assert vocabulary.tokens[size + 2] == b"<|late|>" and len(vocabulary) == size + 3


def test_an_invalid_tokenizer_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"neither tokenizer.json nor tokenizer.model"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"\x0e\xff\xff not a message")
    with pytest.raises(TokenizerError, match="neither a SentencePiece model nor a tiktoken file"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(TokenizerError, match=r"tokenizer.json: not a tokenizer.json"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("kind", ["WordPiece", "WordLevel"])
def test_kinds_without_bytes_are_refused(tmp_path: Path, kind: str) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": kind, "vocab": {"a": 0}}}))
    with pytest.raises(TokenizerError, match=f"{kind}.*does not keep the bytes"):
        read_tokenizer(tmp_path)


def test_a_character_outside_the_alphabet_names_the_file(tokenizers) -> None:
    state = json.loads(json.dumps(read(tokenizers["byte_level"]).tokenizer_json))
    state["model"]["vocab"]["ж"] = len(state["model"]["vocab"])
    with pytest.raises(TokenizerError, match=r"somewhere.*ж"):
        _ = TokenizerFile(Path("somewhere"), state, "byte_level").vocabulary


def test_texts_are_encoded_without_special_tokens_truncation_or_padding(tokenizers, texts) -> None:
    file = read_tokenizer(tokenizers["sentencepiece_bpe"])
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    changed = replace(file, tokenizer_json=file.tokenizer_json | {"truncation": truncation})
    expected = [file.tokenizer.encode(text, add_special_tokens=False).ids for text in texts["ru"][:20]]
    assert changed.encode_batch(texts["ru"][:20]) == expected
    assert changed.count_tokens(texts["ru"][:20]) == sum(map(len, expected)) > 40
    assert file.encode_batch([]) == [] and file.count_tokens([""]) == 0
