"""Continued merges: old ids stay, new tokens are reachable, and they expand to what the base says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from lep.core.vocabulary import Kind
from lep.errors import TokenizerError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization import merge_continuation as extension
from lep.tokenization.merge_continuation import Additions, continue_merges, extended

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
class Made:
    """An extended base."""

    additions: Additions
    new: TokenizerFile
    expansions: dict[int, tuple[int, ...]]

    @property
    def tokenizer(self) -> Tokenizer:
        return self.new.tokenizer


def make(base: TokenizerFile, words: list[tuple[str, int]], *, limit: int) -> Made:
    additions = continue_merges(base, words, limit=limit)
    first = len(base.vocabulary)
    expansions = {first + i: addition.expansion for i, addition in enumerate(additions.tokens)}
    return Made(additions, extended(base, additions.tokens), expansions)


@pytest.fixture(scope="module")
def made(forms, words) -> dict[str, Made]:
    """Each base extended by NEW tokens learnt from the Russian text."""
    return {form: make(forms[form], words(forms[form], "ru"), limit=NEW) for form in FORMS}


@pytest.mark.parametrize("form", FORMS)
def test_old_ids_are_unchanged_and_new_ids_follow(forms, made, form) -> None:
    base, found = forms[form], made[form]
    old = base.tokenizer.get_vocab(with_added_tokens=True)
    new = found.tokenizer.get_vocab(with_added_tokens=True)
    assert old.items() <= new.items()
    first = len(base.vocabulary)
    assert sorted(new[text] for text in new.keys() - old.keys()) == list(range(first, first + NEW))
    assert found.tokenizer.get_added_tokens_decoder().keys() == base.tokenizer.get_added_tokens_decoder().keys()


@pytest.mark.parametrize("form", FORMS)
def test_merges_are_appended_in_the_form_of_the_base(forms, made, form) -> None:
    old, new = forms[form].state["model"]["merges"], made[form].new.state["model"]["merges"]
    characters = sum(addition.parts is None for addition in made[form].additions.tokens)
    assert new[: len(old)] == old and len(new) == len(old) + NEW - characters
    assert {type(merge) for merge in new[len(old) :]} == {str if form == "strings" else list}


def test_the_form_changes_nothing_else(made) -> None:
    assert made["pairs"].expansions == made["strings"].expansions == made["ignore_merges"].expansions
    assert made["sentencepiece_bpe"].expansions == made["metaspace"].expansions


@pytest.mark.parametrize("form", FORMS)
def test_every_new_token_is_reachable_and_spells_its_expansion(forms, made, form) -> None:
    base, new = forms[form], made[form].new
    for id_, expansion in made[form].expansions.items():
        assert [piece.id for piece in new.tokenizer.model.tokenize(new.tokenizer.id_to_token(id_))] == [id_]
        assert list(new.segment(new.vocabulary.tokens[id_])) == [id_]
        assert new.vocabulary.tokens[id_] == b"".join(base.vocabulary.tokens[piece] for piece in expansion)
        assert len(expansion) >= 2 and new.vocabulary.kinds[id_] is Kind.NORMAL


@pytest.mark.parametrize("form", FORMS)
@given(parts=SENTENCES)
@settings(max_examples=60, deadline=None)
def test_expanding_gives_the_ids_of_the_base_and_decoding_the_text(forms, made, form, parts) -> None:
    base, found, text = forms[form].tokenizer, made[form], " ".join(parts)
    ids = found.tokenizer.encode(text, add_special_tokens=False).ids
    expanded = [piece for id_ in ids for piece in found.expansions.get(id_, (id_,))]
    expected = base.encode(text, add_special_tokens=False).ids
    assert expanded == expected
    decoded = found.tokenizer.decode(ids, skip_special_tokens=False)
    assert decoded == base.decode(expected, skip_special_tokens=False)
    assert decoded == text or (form not in BYTE_LEVEL and ("▁" in text or form == "user_defined"))


@pytest.mark.parametrize("form", FILES)
@given(parts=SENTENCES)
@settings(max_examples=60, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(forms, made, form, tmp_path_factory, parts) -> None:
    """On text on which the base's two say the same: all but what holds a special token's name."""
    base, found, text = forms[form], made[form], " ".join(parts)
    file = tmp_path_factory.getbasetemp() / f"{form}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, state=found.new.state)
    old, new = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old:
        assert found.tokenizer.encode(text, add_special_tokens=False).ids == new
    else:
        assert form == "user_defined" or any(name in text for name in base.added)


@pytest.mark.parametrize("form", FORMS)
def test_the_language_gets_shorter_and_text_without_new_tokens_keeps_its_ids(forms, made, texts, form) -> None:
    base, tokenizer = forms[form].tokenizer, made[form].tokenizer

    def count(one: Tokenizer) -> int:
        return sum(len(encoded.ids) for encoded in one.encode_batch(texts["ru"][:100]))

    assert count(tokenizer) < count(base) / (1.2 if form in ("sentencepiece_bpe", "metaspace") else 2)
    for text in texts["en"][:100]:
        new = tokenizer.encode(text).ids
        assert new == base.encode(text).ids or any(id_ in made[form].expansions for id_ in new)


@pytest.mark.parametrize("form", ["english", "user_defined"])
def test_characters_that_the_base_spells_in_bytes_get_pieces_without_merges(forms, made, texts, form) -> None:
    base, found = forms[form], made[form]
    letters = {text for text in set("".join(texts["ru"])) if len(base.tokenizer.model.tokenize(text)) > 1}
    new = {addition.text for addition in found.additions.tokens if addition.parts is None}
    assert new <= letters and len(new) > 20
    text = "".join(texts["ru"])
    assert sum(map(text.count, letters - new)) <= (1 - extension.COVERAGE) * len(text)
    kinds = base.vocabulary.kinds
    for addition in found.additions.tokens[: len(new)]:
        assert addition.parts is None and all(kinds[id_] is Kind.BYTE for id_ in addition.expansion)
    assert made["pairs"].additions.tokens[0].parts, "byte-level bases need none"


def test_few_tokens_are_the_most_frequent_characters(forms, words, texts) -> None:
    found = make(forms["english"], words(forms["english"], "ru"), limit=5).additions.tokens
    text = "".join(texts["ru"])
    letters = sorted({letter for letter in text if letter.isalpha()}, key=lambda letter: -text.count(letter))
    assert {addition.text for addition in found} == set(letters[:5])


def test_special_tokens_keep_their_ids_and_are_still_matched_whole(forms, made) -> None:
    ids = made["pairs"].tokenizer.encode("<|im_start|>Старый профессор<|im_end|>").ids
    added = forms["pairs"].added
    assert (ids[0], ids[-1]) == (added["<|im_start|>"], added["<|im_end|>"])


def test_the_base_is_not_changed(forms, words) -> None:
    base = forms["pairs"]
    before = repr(base.state)
    make(base, words(base, "ru"), limit=10)
    assert repr(base.state) == before


@pytest.mark.parametrize("form", FORMS)
def test_the_first_new_tokens_are_an_extension_too(forms, made, words, form) -> None:
    few = make(forms[form], words(forms[form], "ru"), limit=NEW // 3)
    assert few.additions.tokens == made[form].additions.tokens[: NEW // 3]


@pytest.mark.parametrize("form", FORMS)
def test_no_new_token_holds_a_digit(forms, made, form) -> None:
    assert not any(extension.has_digit(addition.text) for addition in made[form].additions.tokens)
    assert extension.has_digit("в1987") and not extension.has_digit("в")


def test_text_that_is_too_little_gives_what_there_is(forms, words) -> None:
    split = words(forms["pairs"], "ru")
    few = make(forms["pairs"], [(word, 2) for word, _ in split if "." not in word][:5], limit=500)
    assert 0 < len(few.additions.tokens) < 500
    assert make(forms["pairs"], [], limit=5).additions.tokens == []


@pytest.mark.parametrize("family", ["sentencepiece_unigram", "no_merges"])
def test_a_base_without_merges_is_refused(tokenizers, forms, family) -> None:
    model = forms["metaspace"].state["model"] | {"merges": []}
    bare = TokenizerFile(Path("somewhere"), forms["metaspace"].state | {"model": model}, "sentencepiece")
    base = bare if family == "no_merges" else read_tokenizer(tokenizers[family])
    kind = "BPE" if family == "no_merges" else "Unigram"
    message = f"{base.path}: a {kind} tokenizer without merges cannot be continued or cut; give kind=bpe"
    with pytest.raises(TokenizerError, match=message):
        continue_merges(base, [("да", 5)], limit=10)


def keep(base: TokenizerFile, learnt: list[tuple[str, str]], spelling: dict[str, int]):
    """`_keep` with the letters of `spelling` for its tokens."""
    alphabet = extension.letters(len(base.vocabulary))
    to = {letter: alphabet[id_] for letter, id_ in spelling.items()}
    pairs = [tuple("".join(to[unit] for unit in part) for part in pair) for pair in learnt]
    return extension._keep(base, extended(base, []), pairs, alphabet=alphabet, limit=9)


def test_a_token_that_another_path_spells_is_dropped_with_all_that_needs_it(forms) -> None:
    """`ab` + `c` and `a` + `bc` spell one token: it cannot have two expansions."""
    vocab = forms["pairs"].state["model"]["vocab"]
    spelling = {"x": vocab["Q"], "y": vocab["X"], "z": vocab["Z"]}
    learnt = [("x", "y"), ("y", "z"), ("xy", "z"), ("x", "yz"), ("xyz", "x")]
    kept, dropped = keep(forms["pairs"], learnt, spelling)
    assert [addition.parts for addition in kept] == [("Q", "X"), ("X", "Z"), ("QX", "Z"), ("QXZ", "Q")]
    assert dropped == {"spelt like another token": 1}


def test_a_token_that_the_base_segments_otherwise_is_dropped(forms) -> None:
    """`Q` `a` `b` may stand side by side in learning, but of the token's own text the base makes `Q` `ab`."""
    base = forms["pairs"]
    vocab, (first, second) = base.state["model"]["vocab"], base.merges[0]
    spelling = {"x": vocab["Q"], "y": vocab[first], "z": vocab[second]}
    kept, dropped = keep(base, [("x", "y"), ("xy", "z"), ("xyz", "x")], spelling)
    assert [addition.parts for addition in kept] == [("Q", first)]
    assert dropped == {"the base segments it otherwise": 1, "a part of it was dropped": 1}


def test_dropped_counts_only_merges_that_were_tried(forms, words, monkeypatch) -> None:
    """Those learnt to spare, after the last one that was kept, are no loss."""
    calls = []

    def watched(*arguments, **more):
        kept, dropped = keep_(*arguments, **more)
        calls.append((len(arguments[2]), len(kept), dropped.total()))
        return kept, dropped

    keep_ = extension._keep
    monkeypatch.setattr(extension, "_keep", watched)
    continue_merges(forms["pairs"], words(forms["pairs"], "ru"), limit=NEW)
    ((learnt, kept, dropped),) = calls
    assert learnt == int(NEW * extension.SURPLUS) + 8 and kept == NEW and dropped < learnt - NEW


def test_more_is_learnt_when_too_much_was_dropped(forms, words, monkeypatch) -> None:
    monkeypatch.setattr(extension, "SURPLUS", 0.1)
    few, enough = (continue_merges(forms["pairs"], words(forms["pairs"], "ru"), limit=n).tokens for n in (40, NEW))
    assert len(enough) == NEW and enough[:40] == few


def test_special_tokens_outside_the_models_vocabulary_keep_their_ids(forms, words) -> None:
    """As in Llama-3: loaders renumber added tokens that a grown `model.vocab` does not list."""
    base = forms["tiktoken"]
    last = len(base.vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": last + i, "content": text} | flags for i, text in enumerate(["<|begin|>", "<|end|>"])]
    with_added = TokenizerFile(base.path, {**base.state, "added_tokens": added}, base.scheme)
    found = make(with_added, words(base, "ru"), limit=20)
    assert {text: found.tokenizer.token_to_id(text) for text in ("<|begin|>", "<|end|>")} == with_added.added
    assert sorted(found.expansions) == list(range(last + 2, last + 22))
    assert {found.tokenizer.token_to_id(found.tokenizer.id_to_token(id_)) for id_ in found.expansions} == set(
        found.expansions
    )
