"""Continued merges: old ids stay, new tokens are reachable, and they expand to what the base says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lep.engine import extension
from lep.engine.extension import Extension, extend
from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_files import TokenizerFile, read_tokenizer

NEW = 150
FORMS = ("pairs", "strings", "ignore_merges", "tiktoken")

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


@pytest.fixture(scope="module")
def bases(tokenizers: dict[str, Path]) -> dict[str, TokenizerFile]:
    """The base in each form in which its merges can be stored."""
    base = read_tokenizer(tokenizers["byte_level"])
    strings, ignoring = json.loads(json.dumps([base.state, base.state]))
    strings["model"]["merges"] = [" ".join(merge) for merge in strings["model"]["merges"]]
    ignoring["model"]["ignore_merges"] = True
    return {
        "pairs": base,
        "strings": TokenizerFile(base.path, strings, base.scheme),
        "ignore_merges": TokenizerFile(base.path, ignoring, base.scheme),
        "tiktoken": read_tokenizer(tokenizers["tiktoken"]),
    }


@pytest.fixture(scope="module")
def extended(bases: dict[str, TokenizerFile], texts: dict[str, list[str]]) -> dict[str, tuple[Extension, Tokenizer]]:
    """Each base extended by NEW tokens learnt from the Russian text."""
    made = {form: extend(base, texts["ru"], new_tokens=NEW) for form, base in bases.items()}
    return {form: (found, Tokenizer.from_str(json.dumps(found.state))) for form, found in made.items()}


@pytest.mark.parametrize("form", FORMS)
def test_old_ids_are_unchanged_and_new_ids_follow(bases, extended, form) -> None:
    base, (found, tokenizer) = bases[form], extended[form]
    old = base.tokenizer.get_vocab(with_added_tokens=True)
    new = tokenizer.get_vocab(with_added_tokens=True)
    assert old.items() <= new.items()
    first = len(base.vocabulary)
    assert sorted(found.expansions) == sorted(new[text] for text in new.keys() - old.keys())
    assert sorted(found.expansions) == list(range(first, first + NEW))
    assert tokenizer.get_added_tokens_decoder().keys() == base.tokenizer.get_added_tokens_decoder().keys()


@pytest.mark.parametrize("form", FORMS)
def test_merges_are_appended_in_the_form_of_the_base(bases, extended, form) -> None:
    old, new = bases[form].state["model"]["merges"], extended[form][0].state["model"]["merges"]
    assert new[: len(old)] == old and len(new) == len(old) + NEW
    assert {type(merge) for merge in new} == {str if form == "strings" else list}


def test_the_form_changes_nothing_else(extended) -> None:
    assert extended["pairs"][0].expansions == extended["strings"][0].expansions
    assert extended["pairs"][0].expansions == extended["ignore_merges"][0].expansions


@pytest.mark.parametrize("form", FORMS)
def test_every_new_token_is_reachable_and_spells_its_expansion(bases, extended, form) -> None:
    base, (found, tokenizer) = bases[form], extended[form]
    new = TokenizerFile(Path("extended"), found.state, base.scheme)
    for id_, expansion in found.expansions.items():
        assert [piece.id for piece in tokenizer.model.tokenize(tokenizer.id_to_token(id_))] == [id_]
        assert new.vocabulary.tokens[id_] == b"".join(base.vocabulary.tokens[piece] for piece in expansion)
        assert len(expansion) >= 2


@pytest.mark.parametrize("form", FORMS)
@given(parts=SENTENCES)
@settings(max_examples=60, deadline=None)
def test_expanding_gives_the_ids_of_the_base_and_decoding_the_text(bases, extended, form, parts) -> None:
    base, (found, tokenizer) = bases[form], extended[form]
    text = " ".join(parts)
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    expanded = [piece for id_ in ids for piece in found.expansions.get(id_, (id_,))]
    assert expanded == base.tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("form", FORMS)
def test_the_language_gets_shorter_and_text_without_new_tokens_keeps_its_ids(bases, extended, texts, form) -> None:
    base, (_, tokenizer) = bases[form].tokenizer, extended[form]

    def count(one: Tokenizer) -> int:
        return sum(len(encoded.ids) for encoded in one.encode_batch(texts["ru"][:100]))

    assert count(tokenizer) < count(base) / 2
    for text in texts["en"][:100]:
        assert tokenizer.encode(text).ids == base.encode(text).ids


def test_special_tokens_keep_their_ids_and_are_still_matched_whole(bases, extended) -> None:
    base, (_, tokenizer) = bases["pairs"], extended["pairs"]
    text = "<|im_start|>Старый профессор<|im_end|>"
    ids = tokenizer.encode(text).ids
    assert (ids[0], ids[-1]) == (base.added["<|im_start|>"], base.added["<|im_end|>"])


def test_the_base_is_not_changed(bases, texts) -> None:
    before = json.dumps(bases["pairs"].state)
    extend(bases["pairs"], texts["ru"], new_tokens=5)
    assert json.dumps(bases["pairs"].state) == before


def test_dropped_counts_only_merges_that_were_tried_and_refused(bases, texts, monkeypatch) -> None:
    """Of the merges up to the last kept one; those learnt to spare were never tried."""
    calls: list[tuple[bool, int]] = []
    keep = extension._keep

    def watched(base, learnt, *, spelling, limit):
        kept, dropped = keep(base, learnt, spelling=spelling, limit=limit)
        pairs = {pair for pair, _ in kept}
        stored = {id_: text for text, id_ in base.state["model"]["vocab"].items()}
        texts_of = [tuple("".join(stored[spelling[letter]] for letter in part) for part in merge) for merge in learnt]
        last = max(i for i, merge in enumerate(texts_of) if merge in pairs)
        calls.append((dropped == sum(merge not in pairs for merge in texts_of[: last + 1]), dropped))
        return kept, dropped

    monkeypatch.setattr(extension, "_keep", watched)
    found = extend(bases["pairs"], texts["ru"], new_tokens=NEW)
    assert calls == [(True, found.dropped)]
    assert found.dropped < int(NEW * extension.SURPLUS) + 8 - NEW, "the surplus was not dropped: it was never tried"


def test_a_token_that_another_path_spells_is_dropped_and_counted(bases) -> None:
    """`ab` + `c` and `a` + `bc` spell one token: it cannot have two expansions."""
    base = bases["pairs"]
    vocab = base.state["model"]["vocab"]
    spelling = {"x": vocab["Q"], "y": vocab["X"], "z": vocab["Z"]}
    learnt = [("x", "y"), ("y", "z"), ("xy", "z"), ("x", "yz"), ("xyz", "x")]
    kept, dropped = extension._keep(base, learnt, spelling=spelling, limit=9)
    assert [pair for pair, _ in kept] == [("Q", "X"), ("X", "Z"), ("QX", "Z"), ("QXZ", "Q")]
    assert dropped == 1


def test_a_token_that_the_base_segments_otherwise_is_dropped(bases) -> None:
    """`Q` `a` `b` may stand side by side in learning, but of the token's own text the base makes `Q` `ab`."""
    base = bases["pairs"]
    vocab, (first, second) = base.state["model"]["vocab"], base.state["model"]["merges"][0]
    spelling = {"x": vocab["Q"], "y": vocab[first], "z": vocab[second]}
    kept, dropped = extension._keep(base, [("x", "y"), ("xy", "z")], spelling=spelling, limit=9)
    assert [pair for pair, _ in kept] == [("Q", first)]
    assert dropped == 1


def test_special_tokens_outside_the_models_vocabulary_keep_their_ids(bases, texts) -> None:
    """As in Llama-3: loaders renumber added tokens that a grown `model.vocab` does not list."""
    base = bases["tiktoken"]
    last = len(base.vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": last + i, "content": text} | flags for i, text in enumerate(["<|begin|>", "<|end|>"])]
    with_added = TokenizerFile(base.path, {**base.state, "added_tokens": added}, base.scheme)
    found = extend(with_added, texts["ru"], new_tokens=20)
    loaded = Tokenizer.from_str(json.dumps(found.state))
    assert {text: loaded.token_to_id(text) for text in ("<|begin|>", "<|end|>")} == with_added.added
    assert sorted(found.expansions) == list(range(last + 2, last + 22))
    assert {loaded.token_to_id(loaded.id_to_token(id_)) for id_ in found.expansions} == set(found.expansions)


def test_text_that_is_too_little_is_an_error_that_counts(bases) -> None:
    with pytest.raises(DataError, match=r"yields \d+ new tokens of the 150"):
        extend(bases["pairs"], ["Старый профессор"], new_tokens=150)
    with pytest.raises(DataError, match="yields 0 new tokens"):
        extend(bases["pairs"], [], new_tokens=1)


@pytest.mark.parametrize("family", ["sentencepiece_bpe", "sentencepiece_unigram", "metaspace"])
def test_a_sentencepiece_base_is_refused(tokenizers, texts, family) -> None:
    with pytest.raises(TokenizerError, match="byte-level"):
        extend(read_tokenizer(tokenizers[family]), texts["ru"], new_tokens=10)
