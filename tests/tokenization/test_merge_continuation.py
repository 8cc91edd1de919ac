"""Continued merges: old ids stay, and new tokens can be reached and expand to the ids of the base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from lep.core.vocabulary import TokenKind
from lep.errors import TokenizerError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization import merge_continuation
from lep.tokenization.merge_continuation import VocabularyExtension, append_tokens, continue_merges

NEW = 150
BYTE_LEVEL = ("pairs", "strings", "ignore_merges", "tiktoken")
FILES = ("sentencepiece_bpe", "english", "user_defined")
FORMS = (*BYTE_LEVEL, *FILES, "metaspace")

TEXT = st.text(
    st.sampled_from("абвгдежиклмнопрстуфхцчшщыьэюяёАБВ")
    | st.sampled_from("abcdefghijklmnopqrstuvwxyzABC")
    | st.sampled_from(" \n\t0123456789.,!?—«»'▁😀👩🏽‍🚀€́")
    | st.characters(exclude_categories=["Cs"]),
    max_size=60,
)
SENTENCES = st.lists(
    TEXT | st.sampled_from(["Старый профессор", " прочитал", "удивительную историю", "  in the library"])
)


@dataclass(frozen=True)
class Extended:
    """An extended base."""

    extension: VocabularyExtension
    new: TokenizerFile
    expansions: dict[int, tuple[int, ...]]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.new.tokenizer


def extend(base: TokenizerFile, words: list[tuple[str, int]], *, max_tokens: int) -> Extended:
    extension = continue_merges(base, words, max_tokens=max_tokens)
    first = len(base.vocabulary)
    expansions = {first + i: token.base_ids for i, token in enumerate(extension.tokens)}
    return Extended(extension, append_tokens(base, extension.tokens), expansions)


@pytest.fixture(scope="module")
def extended(forms, words) -> dict[str, Extended]:
    """Each base extended by NEW tokens learned from the Russian text."""
    return {form: extend(forms[form], words(forms[form], "ru"), max_tokens=NEW) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_old_ids_are_unchanged_and_new_ids_follow(forms, extended, form) -> None:
    base, result = forms[form], extended[form]
    old = base.tokenizer.get_vocab(with_added_tokens=True)
    new = result.tokenizer.get_vocab(with_added_tokens=True)
    assert old.items() <= new.items()
    first = len(base.vocabulary)
    assert sorted(new[text] for text in new.keys() - old.keys()) == list(range(first, first + NEW))
    assert result.tokenizer.get_added_tokens_decoder().keys() == base.tokenizer.get_added_tokens_decoder().keys()


@pytest.mark.parametrize("form", FORMS)
def test_merges_are_appended_in_the_form_of_the_base(forms, extended, form) -> None:
    old, new = forms[form].tokenizer_json["model"]["merges"], extended[form].new.tokenizer_json["model"]["merges"]
    characters = sum(token.merge is None for token in extended[form].extension.tokens)
    assert new[: len(old)] == old and len(new) == len(old) + NEW - characters
    assert {type(merge) for merge in new[len(old) :]} == {str if form == "strings" else list}


def test_the_form_changes_nothing_else(extended) -> None:
    assert extended["pairs"].expansions == extended["strings"].expansions == extended["ignore_merges"].expansions
    assert extended["sentencepiece_bpe"].expansions == extended["metaspace"].expansions


@pytest.mark.parametrize("form", FORMS)
def test_every_new_token_is_reachable_and_spells_its_expansion(forms, extended, form) -> None:
    base, new = forms[form], extended[form].new
    for id_, expansion in extended[form].expansions.items():
        assert [token.id for token in new.tokenizer.model.tokenize(new.tokenizer.id_to_token(id_))] == [id_]
        assert list(new.segment(new.vocabulary.tokens[id_])) == [id_]
        assert new.vocabulary.tokens[id_] == b"".join(base.vocabulary.tokens[base_id] for base_id in expansion)
        assert len(expansion) >= 2 and new.vocabulary.kinds[id_] is TokenKind.NORMAL


@pytest.mark.parametrize("form", FORMS)
@given(parts=SENTENCES)
@settings(max_examples=60, deadline=None)
def test_expanding_gives_the_ids_of_the_base_and_decoding_the_text(forms, extended, form, parts) -> None:
    base, result, text = forms[form].tokenizer, extended[form], " ".join(parts)
    ids = result.tokenizer.encode(text, add_special_tokens=False).ids
    expanded = [base_id for id_ in ids for base_id in result.expansions.get(id_, (id_,))]
    expected = base.encode(text, add_special_tokens=False).ids
    assert expanded == expected
    decoded = result.tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded == base.decode(expected, skip_special_tokens=False)
    assert decoded == text or (form not in BYTE_LEVEL and ("▁" in text or form == "user_defined"))


@pytest.mark.parametrize("form", FILES)
@given(parts=SENTENCES)
@settings(max_examples=60, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(forms, extended, form, tmp_path_factory, parts) -> None:
    """On text on which both files of the base agree: all but text with the name of a special token."""
    base, result, text = forms[form], extended[form], " ".join(parts)
    file = tmp_path_factory.getbasetemp() / f"{form}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, tokenizer_json=result.new.tokenizer_json)
    old, new = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old:
        assert result.tokenizer.encode(text, add_special_tokens=False).ids == new
    else:
        assert form == "user_defined" or any(name in text for name in base.added_tokens)


@pytest.mark.parametrize("form", FORMS)
def test_the_language_gets_shorter_and_text_without_new_tokens_keeps_its_ids(forms, extended, texts, form) -> None:
    base, tokenizer = forms[form].tokenizer, extended[form].tokenizer

    def count(one: Tokenizer) -> int:
        return sum(len(encoded.ids) for encoded in one.encode_batch(texts["ru"][:100]))

    assert count(tokenizer) < count(base) / (1.2 if form in ("sentencepiece_bpe", "metaspace") else 2)
    for text in texts["en"][:100]:
        new = tokenizer.encode(text).ids
        assert new == base.encode(text).ids or any(id_ in extended[form].expansions for id_ in new)


@pytest.mark.parametrize("form", ["english", "user_defined"])
def test_characters_that_the_base_spells_in_bytes_get_tokens_without_merges(forms, extended, texts, form) -> None:
    base, result = forms[form], extended[form]
    letters = {text for text in set("".join(texts["ru"])) if len(base.tokenizer.model.tokenize(text)) > 1}
    new = {token.text for token in result.extension.tokens if token.merge is None}
    assert new <= letters and len(new) > 20
    text = "".join(texts["ru"])
    assert sum(map(text.count, letters - new)) <= (1 - merge_continuation.CHARACTER_COVERAGE) * len(text)
    kinds = base.vocabulary.kinds
    for token in result.extension.tokens[: len(new)]:
        assert token.merge is None and all(kinds[id_] is TokenKind.BYTE_FALLBACK for id_ in token.base_ids)
    assert extended["pairs"].extension.tokens[0].merge, "byte-level bases need none"


def test_characters_are_added_until_the_coverage_is_reached(forms) -> None:
    """Fewer than five of 10,000 characters may stay without a token."""
    for count, expected in ((4, []), (6, ["щ"])):
        extension = continue_merges(forms["english"], [("e", 10_000 - count), ("щ", count)], max_tokens=1)
        assert [token.text for token in extension.tokens] == expected


def test_few_tokens_are_the_most_frequent_characters(forms, words, texts) -> None:
    tokens = extend(forms["english"], words(forms["english"], "ru"), max_tokens=5).extension.tokens
    text = "".join(texts["ru"])
    letters = sorted({letter for letter in text if letter.isalpha()}, key=lambda letter: -text.count(letter))
    assert {token.text for token in tokens} == set(letters[:5])


def test_special_tokens_keep_their_ids_and_are_still_matched_whole(forms, extended) -> None:
    ids = extended["pairs"].tokenizer.encode("<|im_start|>Старый профессор<|im_end|>").ids
    added = forms["pairs"].added_tokens
    assert (ids[0], ids[-1]) == (added["<|im_start|>"], added["<|im_end|>"])


def test_the_base_is_not_changed(forms, words) -> None:
    base = forms["pairs"]
    before = repr(base.tokenizer_json)
    extend(base, words(base, "ru"), max_tokens=10)
    assert repr(base.tokenizer_json) == before


@pytest.mark.parametrize("form", FORMS)
def test_the_first_new_tokens_are_an_extension_too(forms, extended, words, form) -> None:
    few = extend(forms[form], words(forms[form], "ru"), max_tokens=NEW // 3)
    assert few.extension.tokens == extended[form].extension.tokens[: NEW // 3]


@pytest.mark.parametrize("form", FORMS)
def test_no_new_token_holds_a_digit(forms, extended, form) -> None:
    assert not any(merge_continuation.has_digit(token.text) for token in extended[form].extension.tokens)
    assert merge_continuation.has_digit("в1987") and not merge_continuation.has_digit("в")


def test_too_little_text_gives_fewer_tokens(forms, words) -> None:
    split = words(forms["pairs"], "ru")
    few = extend(forms["pairs"], [(word, 2) for word, _ in split if "." not in word][:5], max_tokens=500)
    assert 0 < len(few.extension.tokens) < 500
    assert extend(forms["pairs"], [], max_tokens=5).extension.tokens == []


@pytest.mark.parametrize("family", ["sentencepiece_unigram", "no_merges"])
def test_a_base_without_merges_is_refused(tokenizers, forms, family) -> None:
    model = forms["metaspace"].tokenizer_json["model"] | {"merges": []}
    bare = TokenizerFile(Path("somewhere"), forms["metaspace"].tokenizer_json | {"model": model}, "sentencepiece")
    base = bare if family == "no_merges" else read_tokenizer(tokenizers[family])
    kind = "BPE" if family == "no_merges" else "Unigram"
    message = f"{base.path}: a {kind} tokenizer without merges cannot be extended or pruned; give kind=bpe"
    with pytest.raises(TokenizerError, match=message):
        continue_merges(base, [("да", 5)], max_tokens=10)


def select(base: TokenizerFile, merges: list[tuple[str, str]], spelling: dict[str, int]):
    """Run `_drop_unusable_merges` on merges of letters, where `spelling` maps letters to tokens."""
    alphabet = merge_continuation.build_alphabet(len(base.vocabulary))
    letter_of = {letter: alphabet[id_] for letter, id_ in spelling.items()}
    pairs = [tuple("".join(letter_of[character] for character in part) for part in pair) for pair in merges]
    return merge_continuation._drop_unusable_merges(
        base, append_tokens(base, []), pairs, alphabet=alphabet, max_tokens=9
    )


def test_a_token_that_another_path_spells_is_dropped_with_all_that_needs_it(forms) -> None:
    """`ab` + `c` and `a` + `bc` spell one token: it cannot have two expansions."""
    vocab = forms["pairs"].tokenizer_json["model"]["vocab"]
    spelling = {"x": vocab["Q"], "y": vocab["X"], "z": vocab["Z"]}
    merges = [("x", "y"), ("y", "z"), ("xy", "z"), ("x", "yz"), ("xyz", "x")]
    kept, dropped = select(forms["pairs"], merges, spelling)
    assert [token.merge for token in kept] == [("Q", "X"), ("X", "Z"), ("QX", "Z"), ("QXZ", "Q")]
    assert dropped == {"spelled like another token": 1}


def test_a_token_that_the_base_segments_otherwise_is_dropped(forms) -> None:
    """`Q` `a` `b` may be adjacent in a word, but the base segments the text of the token alone into `Q` `ab`."""
    base = forms["pairs"]
    vocab, (first, second) = base.tokenizer_json["model"]["vocab"], base.merges[0]
    spelling = {"x": vocab["Q"], "y": vocab[first], "z": vocab[second]}
    kept, dropped = select(base, [("x", "y"), ("xy", "z"), ("xyz", "x")], spelling)
    assert [token.merge for token in kept] == [("Q", first)]
    assert dropped == {"the base segments it differently": 1, "a part was dropped": 1}


def test_dropped_counts_only_merges_that_were_tried(forms, words, monkeypatch) -> None:
    """Surplus merges, after the last one that was kept, are not counted."""
    calls = []

    def recorded(*arguments, **keywords):
        kept, dropped = original(*arguments, **keywords)
        calls.append((len(arguments[2]), len(kept), dropped.total()))
        return kept, dropped

    original = merge_continuation._drop_unusable_merges
    monkeypatch.setattr(merge_continuation, "_drop_unusable_merges", recorded)
    continue_merges(forms["pairs"], words(forms["pairs"], "ru"), max_tokens=NEW)
    ((learned, kept, dropped),) = calls
    assert learned == int(NEW * merge_continuation.MERGE_OVERSAMPLING) + 8 and kept == NEW and dropped < learned - NEW


def test_more_merges_are_learned_when_too_many_were_dropped(forms, words, monkeypatch) -> None:
    monkeypatch.setattr(merge_continuation, "MERGE_OVERSAMPLING", 0.1)
    few, enough = (continue_merges(forms["pairs"], words(forms["pairs"], "ru"), max_tokens=n).tokens for n in (40, NEW))
    assert len(enough) == NEW and enough[:40] == few


def test_special_tokens_outside_the_models_vocabulary_keep_their_ids(forms, words) -> None:
    """As in Llama-3: loaders renumber added tokens that a grown `model.vocab` does not list."""
    base = forms["tiktoken"]
    last = len(base.vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": last + i, "content": text} | flags for i, text in enumerate(["<|begin|>", "<|end|>"])]
    with_added = TokenizerFile(base.path, {**base.tokenizer_json, "added_tokens": added}, base.scheme)
    result = extend(with_added, words(base, "ru"), max_tokens=20)
    assert {text: result.tokenizer.token_to_id(text) for text in ("<|begin|>", "<|end|>")} == with_added.added_tokens
    assert sorted(result.expansions) == list(range(last + 2, last + 22))
    assert {result.tokenizer.token_to_id(result.tokenizer.id_to_token(id_)) for id_ in result.expansions} == set(
        result.expansions
    )
