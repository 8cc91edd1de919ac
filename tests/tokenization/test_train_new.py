"""New vocabularies: everything but the tokens is the base's, and every id is a token."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from lep.core.token_bytes import byte_level_string
from lep.core.vocabulary import Kind
from lep.errors import DataError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer
from lep.tokenization.builders import bpe_draft, unigram_draft
from lep.tokenization.merge_continuation import has_digit

LEARNT = 150
BASES = ("pairs", "strings", "tiktoken", "sentencepiece_bpe", "metaspace", "english", "user_defined", "unigram")
FILES = ("sentencepiece_bpe", "english", "user_defined", "unigram")
CASES = [(base, kind) for base in BASES for kind in ("bpe", "unigram")]
TEXT = st.lists(
    st.text("абвгдежзийклмнопрстуфхцчшщъыьэюяё abcdeXYZ«»—(,.\n\t12", max_size=20)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    | st.sampled_from(["Старый профессор", " 1987", "<0x41>", "<s>", "но  (но", "<|im_end|>", "▁"])
)


def made_of(base: TokenizerFile, kind: str, words: list[tuple[str, int]], *, learnt: int = LEARNT) -> TokenizerFile:
    draft = (bpe_draft if kind == "bpe" else unigram_draft)(base, words, lambda _: learnt)
    made = draft.build(draft.available).tokenizer
    assert draft.available == learnt and len(made.vocabulary) == draft.fixed + learnt
    return made


@pytest.fixture(scope="module")
def bases(forms, tokenizers) -> dict[str, TokenizerFile]:
    return forms | {"unigram": read_tokenizer(tokenizers["sentencepiece_unigram"])}


@pytest.fixture(scope="module")
def made(bases, words) -> dict[tuple[str, str], TokenizerFile]:
    """A new vocabulary by base and kind, learnt from both languages, three times as much Russian."""
    found = {}
    for base, kind in CASES:
        used = [*((word, 3 * count) for word, count in words(bases[base], "ru")), *words(bases[base], "en")]
        found[base, kind] = made_of(bases[base], kind, used)
    return found


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_id_is_a_token_and_the_special_ones_are_the_bases(bases, made, case) -> None:
    base, new = bases[case[0]], made[case]
    size = len(new.vocabulary)
    assert Kind.HOLE not in new.vocabulary.kinds
    assert sorted(new.tokenizer.get_vocab(with_added_tokens=True).values()) == list(range(size))
    assert len(set(zip(new.vocabulary.tokens, new.vocabulary.kinds, strict=True))) == size, "none twice"
    special = [
        [t for t, k in zip(v.tokens, v.kinds, strict=True) if k is Kind.SPECIAL]
        for v in (base.vocabulary, new.vocabulary)
    ]
    assert special[0] == special[1] and new.unknown == (None if base.scheme == "byte_level" else "<unk>")
    decoders = [t.tokenizer.get_added_tokens_decoder() for t in (base, new)]
    assert [str(token) for token in decoders[0].values()] == [str(token) for token in decoders[1].values()]
    for key in ("normalizer", "pre_tokenizer", "decoder"):
        assert new.state[key] == base.state[key]


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_every_row_has_a_beginning_in_the_base(bases, made, case) -> None:
    assert map_vocabularies(bases[case[0]], made[case]).missing.tolist() == []


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_no_learnt_token_holds_a_digit_beside_others(made, case) -> None:
    new = made[case]
    stored = {text for text in new.stored_pieces if has_digit(text) and not text.startswith("<")}
    assert stored == set("0123456789")


@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_bpe_reaches_every_token_and_russian_needs_fewer(bases, made, texts, case) -> None:
    base, new = bases[case[0]], made[case]
    old, found = (sum(len(e.ids) for e in t.tokenizer.encode_batch(texts["ru"][:200])) for t in (base, new))
    assert found < old * (1 if "sentencepiece" in base.scheme and case[0] not in ("english", "user_defined") else 0.5)
    if case[1] == "bpe":
        learnt = {"".join(merge) for merge in new.merges}
        assert len(learnt) == len(new.merges) > 50
        for text in learnt:
            assert [token.value for token in new.tokenizer.model.tokenize(text)] == [text]


@pytest.mark.parametrize("case", CASES, ids="-".join)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_decoding_gives_the_text_where_the_bases_does(bases, made, case, parts) -> None:
    base, new, text = bases[case[0]].tokenizer, made[case].tokenizer, " ".join(parts)

    def there_and_back(tokenizer) -> str:
        return tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)

    assert there_and_back(new) == text or there_and_back(base) != text


@pytest.mark.parametrize("case", [(base, kind) for base in FILES for kind in ("bpe", "unigram")], ids="-".join)
@given(parts=TEXT)
@settings(max_examples=60, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(bases, made, case, tmp_path_factory, parts) -> None:
    base, new, text = bases[case[0]], made[case], " ".join(parts)
    file: Path = tmp_path_factory.getbasetemp() / f"{'-'.join(case)}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, state=new.state)
    old, found = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old:
        assert new.tokenizer.encode(text, add_special_tokens=False).ids == found


def test_the_tokens_stand_as_in_the_base_special_ones_first(made) -> None:
    new = made["sentencepiece_bpe", "bpe"]
    texts = [new.tokenizer.id_to_token(id_) for id_ in range(259)]
    assert texts[:3] == ["<unk>", "<s>", "</s>"] and texts[3:] == [f"<0x{byte:02X}>" for byte in range(256)]


def test_ascii_has_pieces_though_the_text_lacks_it(bases, words) -> None:
    for kind in ("bpe", "unigram"):
        new = made_of(bases["sentencepiece_bpe"], kind, words(bases["sentencepiece_bpe"], "ru"), learnt=90)
        ids = new.tokenizer.encode("the <0x41>{~|^", add_special_tokens=False).ids
        assert not any(new.vocabulary.kinds[id_] is Kind.BYTE for id_ in ids)


@pytest.fixture(scope="module")
def lacking(bases) -> TokenizerFile:
    """As SmolLM2, which lacks 21 bytes: tokens for them would have no row to begin with."""
    model, absent = bases["pairs"].state["model"], byte_level_string(b"\x04")
    model = model | {"vocab": {text: id_ for text, id_ in model["vocab"].items() if text != absent}}
    return TokenizerFile(bases["pairs"].path, bases["pairs"].state | {"model": model}, "byte_level")


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_byte_that_the_base_lacks_stays_absent(lacking, words, kind) -> None:
    new = made_of(lacking, kind, words(lacking, "ru"), learnt=90)
    there = set(b"".join(new.vocabulary.tokens[3:]))
    assert set(range(256)) - there == {4} and new.unknown == {"bpe": None, "unigram": "<|endoftext|>"}[kind]
    assert map_vocabularies(lacking, new).missing.tolist() == []


def test_text_with_a_byte_that_the_base_lacks_can_be_read(lacking, words) -> None:
    """BPE leaves the byte out, as the base does."""
    new = made_of(lacking, "bpe", words(lacking, "ru"))
    assert new.tokenizer.decode(new.tokenizer.encode("да\x04нет").ids) == "данет"


def test_unigram_can_read_text_with_a_byte_that_the_base_lacks(lacking, words) -> None:
    new = made_of(lacking, "unigram", words(lacking, "ru"), learnt=90)
    assert "да" in new.tokenizer.decode(new.tokenizer.encode("да\x04нет").ids)


def test_text_with_added_tokens_does_not_teach_them_again(bases) -> None:
    """`но`, `щ` and two spaces are symbols of that base's user: the text's own must not take their ids."""
    base = bases["user_defined"]
    words = [("но", 90), ("▁но", 90), ("▁▁▁▁", 90), ("щи", 90), ("окно", 90), ("▁да", 99), ("дада", 99)]
    for kind, learnt in (("bpe", 4), ("unigram", 9)):
        new = made_of(base, kind, words, learnt=learnt)
        assert Kind.HOLE not in new.vocabulary.kinds
        for text, id_ in new.added.items():
            assert new.tokenizer.token_to_id(text) == id_ and new.vocabulary.kinds[id_] is Kind.SPECIAL
        assert "▁да" in new.stored_pieces


def test_unigram_vocabularies_are_the_same_in_every_run(bases, words, made) -> None:
    base = bases["pairs"]
    used = [*((word, 3 * count) for word, count in words(base, "ru")), *words(base, "en")]
    assert made_of(base, "unigram", used).state == made["pairs", "unigram"].state


def test_a_unigram_vocabulary_smaller_than_its_alphabet_is_an_error(bases, words) -> None:
    base = bases["unigram"]
    with pytest.raises(
        DataError, match=r"has \d+ special tokens, bytes and characters; ask for more tokens than these"
    ):
        made_of(base, "unigram", words(base, "ru"), learnt=20)
