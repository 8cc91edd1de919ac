"""New vocabularies: everything except the tokens is the base's, and every id has a token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from lep.core.token_bytes import encode_byte_level
from lep.core.vocabulary import TokenKind
from lep.errors import DataError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.tokenization.builders import build_bpe_candidate, build_unigram_candidate
from lep.tokenization.merge_continuation import has_digit
from lep.tokenization.train_new import build_unigram_fixed_tokens

LEARNED = 150
BASES = ("pairs", "strings", "tiktoken", "sentencepiece_bpe", "metaspace", "english", "user_defined", "unigram")
FILES = ("sentencepiece_bpe", "english", "user_defined", "unigram")
CASES = [(base, kind) for base in BASES for kind in ("bpe", "unigram")]
TEXT = st.lists(
    st.text("абвгдежзийклмнопрстуфхцчшщъыьэюяё abcdeXYZ«»—(,.\n\t12", max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(["Старый профессор", " 1987", "<0x41>", "<s>", "но  (но", "<|im_end|>", "▁"])
)


def train(base: TokenizerFile, kind: str, words: list[tuple[str, int]], *, learned: int = LEARNED) -> TokenizerFile:
    candidate = (build_bpe_candidate if kind == "bpe" else build_unigram_candidate)(base, words, lambda _: learned)
    tokenizer = candidate.build(candidate.num_available).tokenizer
    assert candidate.num_available == learned and len(tokenizer.vocabulary) == candidate.num_fixed + learned
    return tokenizer


@pytest.fixture(scope="module")
def bases(forms, tokenizers) -> dict[str, TokenizerFile]:
    return forms | {"unigram": read_tokenizer(tokenizers["sentencepiece_unigram"])}


@pytest.fixture(scope="module")
def trained(bases, words) -> dict[tuple[str, str], TokenizerFile]:
    """A new vocabulary by base and kind, trained on both languages, three times as much Russian."""
    result = {}
    for base, kind in CASES:
        used = [*((word, 3 * count) for word, count in words(bases[base], "ru")), *words(bases[base], "en")]
        result[base, kind] = train(bases[base], kind, used)
    return result


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_id_is_a_token_and_the_special_ones_are_the_bases(bases, trained, case) -> None:
    base, new = bases[case[0]], trained[case]
    size = len(new.vocabulary)
    assert TokenKind.UNUSED not in new.vocabulary.kinds
    assert sorted(new.tokenizer.get_vocab(with_added_tokens=True).values()) == list(range(size))
    assert len(set(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True))) == size, "none twice"
    special = [
        [t for t, k in zip(v.tokens, v.kinds, strict=True) if k is TokenKind.SPECIAL]
        for v in (base.vocabulary, new.vocabulary)
    ]
    assert special[0] == special[1] and new.unk_token == (None if base.scheme == "byte_level" else "<unk>")
    decoders = [t.tokenizer.get_added_tokens_decoder() for t in (base, new)]
    assert [str(token) for token in decoders[0].values()] == [str(token) for token in decoders[1].values()]
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        assert new.tokenizer_json[key] == base.tokenizer_json[key]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_token_can_be_initialized_from_the_base(bases, trained, case) -> None:
    assert map_vocabularies(bases[case[0]], trained[case]).missing.tolist() == []


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_no_learned_token_has_a_digit_among_other_characters(trained, case) -> None:
    new = trained[case]
    stored = {text for text in new.stored_tokens if has_digit(text) and not text.startswith("<")}
    assert stored == set("0123456789")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_bpe_reaches_every_token_and_russian_needs_fewer(bases, trained, texts, case) -> None:
    base, new = bases[case[0]], trained[case]
    old_tokens, new_tokens = (sum(len(e.ids) for e in t.tokenizer.encode_batch(texts["ru"][:200])) for t in (base, new))
    fluent = base.scheme == "sentencepiece" and case[0] not in ("english", "user_defined")
    assert new_tokens < old_tokens * (1 if fluent else 0.5)
    if case[1] == "bpe":
        learned = {"".join(merge) for merge in new.merges}
        assert len(learned) == len(new.merges) > 50
        for text in learned:
            assert [token.value for token in new.tokenizer.model.tokenize(text)] == [text]


@pytest.mark.parametrize("case", CASES, ids="-".join)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_decoding_gives_the_text_where_the_bases_does(bases, trained, case, parts) -> None:
    base, new, text = bases[case[0]].tokenizer, trained[case].tokenizer, " ".join(parts)

    def round_trip(tokenizer) -> str:
        return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)

    assert round_trip(new) == text or round_trip(base) != text


@pytest.mark.parametrize("case", [(base, kind) for base in FILES for kind in ("bpe", "unigram")], ids="-".join)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(bases, trained, case, tmp_path_factory, parts) -> None:
    base, new, text = bases[case[0]], trained[case], " ".join(parts)
    file: Path = tmp_path_factory.getbasetemp() / f"{'-'.join(case)}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, tokenizer_json=new.tokenizer_json)
    old_ids, new_ids = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old_ids:
        assert new.tokenizer.encode(text, add_special_tokens=False).ids == new_ids


def test_tokens_are_in_the_order_of_the_base_special_ones_first(trained) -> None:
    new = trained["sentencepiece_bpe", "bpe"]
    texts = [new.tokenizer.id_to_token(id_) for id_ in range(259)]
    assert texts[:3] == ["<unk>", "<s>", "</s>"] and texts[3:] == [f"<0x{byte:02X}>" for byte in range(256)]


def test_ascii_has_pieces_though_the_text_lacks_it(bases, words) -> None:
    for kind in ("bpe", "unigram"):
        new = train(bases["sentencepiece_bpe"], kind, words(bases["sentencepiece_bpe"], "ru"), learned=90)
        ids = new.tokenizer.encode("the <0x41>{~|^", add_special_tokens=False).ids
        assert not any(new.vocabulary.kinds[id_] is TokenKind.BYTE_FALLBACK for id_ in ids)


@pytest.fixture(scope="module")
def lacking(bases) -> TokenizerFile:
    """Like SmolLM2, which lacks 21 bytes: tokens for them could not be initialized."""
    model, absent = bases["pairs"].tokenizer_json["model"], encode_byte_level(b"\x04")
    model = model | {"vocab": {text: id_ for text, id_ in model["vocab"].items() if text != absent}}
    return TokenizerFile(bases["pairs"].path, bases["pairs"].tokenizer_json | {"model": model}, "byte_level")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_byte_that_the_base_lacks_stays_absent(lacking, words, kind) -> None:
    new = train(lacking, kind, words(lacking, "ru"), learned=90)
    spelled = set(b"".join(new.vocabulary.tokens[3:]))
    assert set(range(256)) - spelled == {4} and new.unk_token == {"bpe": None, "unigram": "<|endoftext|>"}[kind]
    assert map_vocabularies(lacking, new).missing.tolist() == []


def test_text_with_a_byte_that_the_base_lacks_can_be_read(lacking, words) -> None:
    """BPE leaves the byte out, as the base does."""
    new = train(lacking, "bpe", words(lacking, "ru"))
    assert new.tokenizer.decode(new.tokenizer.encode("да\x04нет").ids) == "данет"


def test_unigram_can_read_text_with_a_byte_that_the_base_lacks(lacking, words) -> None:
    new = train(lacking, "unigram", words(lacking, "ru"), learned=90)
    assert "да" in new.tokenizer.decode(new.tokenizer.encode("да\x04нет").ids)


def test_added_tokens_in_the_text_are_not_learned_again(bases) -> None:
    """`но`, `щ` and two spaces are user-defined symbols of that base: learned tokens must not take their ids."""
    base = bases["user_defined"]
    words = [("но", 90), ("▁но", 90), ("▁▁▁▁", 90), ("щи", 90), ("окно", 90), ("▁да", 99), ("дада", 99)]
    for kind, learned in (("bpe", 4), ("unigram", 9)):
        new = train(base, kind, words, learned=learned)
        assert TokenKind.UNUSED not in new.vocabulary.kinds
        for text, id_ in new.added_tokens.items():
            assert new.tokenizer.token_to_id(text) == id_ and new.vocabulary.kinds[id_] is TokenKind.SPECIAL
        assert "▁да" in new.stored_tokens


def test_unigram_vocabularies_are_the_same_in_every_run(bases, words, trained) -> None:
    base = bases["pairs"]
    used = [*((word, 3 * count) for word, count in words(base, "ru")), *words(base, "en")]
    assert train(base, "unigram", used).tokenizer_json == trained["pairs", "unigram"].tokenizer_json


def test_a_unigram_vocabulary_of_no_more_tokens_than_characters_is_an_error(bases, words) -> None:
    base = bases["unigram"]
    used = words(base, "ru")
    _, characters = build_unigram_fixed_tokens(base, used)
    message = r"has \d+ special tokens, bytes and characters; ask for more tokens than these"
    with pytest.raises(DataError, match=message):
        train(base, "unigram", used, learned=len(characters))
    assert train(base, "unigram", used, learned=len(characters) + 1)
