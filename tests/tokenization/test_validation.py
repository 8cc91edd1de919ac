"""Proofs hold for what is right, and each of them fails for what is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile
from lep.tokenization.builders import Built, bpe_draft, extended_draft, optimized_draft, unigram_draft
from lep.tokenization.merge_continuation import continue_merges, extended
from lep.tokenization.validation import Proof, prove, same_in_sentencepiece, strange_texts

NAMES = ["special_tokens", "special_ids", "old_ids", "settings", "round_trips", "reachable", "base_ids"]
DRAFTS: dict[str, Callable[..., Any]] = {
    "extended": lambda base, words: extended_draft(base, words, lambda _: 60),
    "optimized": lambda base, words: optimized_draft(base, words, lambda _: 60, keep=370),
    "bpe": lambda base, words: bpe_draft(base, words, lambda _: 100),
    "unigram": lambda base, words: unigram_draft(base, words, lambda _: 90),
}
PROMISED = {
    "extended": set(NAMES),
    "optimized": set(NAMES) - {"special_ids", "old_ids"},
    "bpe": {"special_tokens", "settings", "round_trips", "reachable"},
    "unigram": {"special_tokens", "settings", "round_trips"},
}


def proofs(base: TokenizerFile, built: Built, kind: str, texts: list[str]) -> dict[str, Proof]:
    found = prove(base, built.tokenizer, kind=kind, expansions=built.expansions, texts=texts)
    return {proof.name: proof for proof in found}


def changed(built: Built, change: Callable[[dict[str, Any]], None]) -> Built:
    state = json.loads(json.dumps(built.tokenizer.state))
    change(state)
    return Built(TokenizerFile(built.tokenizer.path, state, built.tokenizer.scheme), built.expansions)


@pytest.fixture(scope="module")
def built(forms, words) -> Built:
    """byte_level extended by 60 Russian tokens."""
    draft = DRAFTS["extended"](forms["pairs"], words(forms["pairs"], "ru"))
    return draft.build(draft.available)


FORMS = ("pairs", "tiktoken", "sentencepiece_bpe", "english")


@pytest.mark.parametrize(
    ("form", "kind"), [(f, k) for f in FORMS for k in DRAFTS if (f, k) != ("english", "optimized")]
)
def test_what_is_made_keeps_its_promises(forms, words, texts, form, kind) -> None:
    base = forms[form]
    draft = DRAFTS[kind](base, words(base, "ru"))
    found = proofs(base, draft.build(draft.available), kind, texts["ru"][:50] + texts["en"][:50])
    assert not [proof for proof in found.values() if proof.broken]
    assert {name for name, proof in found.items() if proof.promised} == PROMISED[kind]
    special = len(base.added)
    assert found["special_tokens"].held == special and found["settings"].of == 3
    assert found["round_trips"].of > 1000 and found["reachable"].of > 20
    assert ("base_ids" in found) == (kind in ("extended", "optimized"))
    if kind == "extended":
        assert found["old_ids"].of == len(base.vocabulary) and found["special_ids"].of == special
        assert found["base_ids"].of == 1100, "every text"


def test_a_proof_is_broken_when_it_was_promised_and_does_not_hold() -> None:
    assert Proof("x", 1, 2, True).broken
    assert (
        not Proof("x", 1, 2, False).broken and not Proof("x", 2, 2, True).broken and not Proof("x", 0, 0, True).broken
    )


def rename_special(state: dict[str, Any]) -> None:
    state["added_tokens"][1]["content"] = "<|other|>"


def swap_special(state: dict[str, Any]) -> None:
    first, second = state["added_tokens"][:2]
    first["content"], second["content"] = second["content"], first["content"]
    vocab = state["model"]["vocab"]
    vocab[first["content"]], vocab[second["content"]] = first["id"], second["id"]


def swap_old(state: dict[str, Any]) -> None:
    vocab = state["model"]["vocab"]
    vocab["Q"], vocab["Z"] = vocab["Z"], vocab["Q"]


def drop_decoder(state: dict[str, Any]) -> None:
    state["decoder"] = {"type": "Sequence", "decoders": [state["decoder"]]}


def lower(state: dict[str, Any]) -> None:
    state["normalizer"] = {"type": "Lowercase"}


def drop_merge(state: dict[str, Any]) -> None:
    state["model"]["merges"].pop()


def merge_first(state: dict[str, Any]) -> None:
    """All new merges go before the old ones: the base's segmentation no longer comes first."""
    merges = state["model"]["merges"]
    state["model"]["merges"] = merges[-60:] + merges[:-60]


def spell_otherwise(state: dict[str, Any]) -> None:
    """Two new tokens change places: both are reachable, but neither expands as it was said."""
    vocab = state["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.__getitem__)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]


BREAKS = {
    rename_special: {"special_tokens", "special_ids", "old_ids"},
    swap_special: {"special_ids", "old_ids"},
    swap_old: {"old_ids", "base_ids"},
    drop_decoder: {"settings"},
    lower: {"settings", "round_trips", "base_ids"},
    drop_merge: {"reachable"},
    merge_first: {"base_ids", "reachable"},
    spell_otherwise: {"base_ids"},
}


@pytest.mark.parametrize("change", BREAKS, ids=lambda change: change.__name__)
def test_each_broken_promise_is_seen(forms, built, texts, change) -> None:
    found = proofs(forms["pairs"], changed(built, change), "extended", [*texts["ru"], "QZ", "ZQ Q"])
    assert {name for name, proof in found.items() if proof.broken} == BREAKS[change]


def test_what_was_not_promised_is_told_but_not_broken(forms, built, texts) -> None:
    found = proofs(forms["pairs"], changed(built, drop_merge), "unigram", texts["ru"])
    assert found["reachable"].held == found["reachable"].of - 1 and not found["reachable"].broken


def test_ids_of_special_tokens_are_theirs_though_another_token_has_the_same_bytes(forms, texts) -> None:
    """An added token may spell what the model spells too: that one's place says nothing about the added one's."""
    bare, last = forms["tiktoken"], len(forms["tiktoken"].vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def with_added(*names: str) -> TokenizerFile:
        added = [{"id": last + i, "content": name} | flags for i, name in enumerate(names)]
        return TokenizerFile(bare.path, bare.state | {"added_tokens": added}, bare.scheme)

    base, moved = with_added("Q", "<|a|>"), with_added("<|a|>", "Q")
    same = {id_: (id_,) for id_ in range(last + 2)}
    assert base.vocabulary.tokens.index(b"Q") < last
    assert proofs(base, Built(base, same), "extended", texts["en"])["special_ids"].held == 2
    assert proofs(base, Built(moved, same), "extended", texts["en"])["special_ids"].held == 0


def test_strange_texts_are_many_kinds_of_text_and_the_same_every_time() -> None:
    found = strange_texts(1000)
    assert found == strange_texts(1000) and found[:10] == strange_texts(10) and len(set(found)) > 950
    whole = "".join(found)
    assert (
        all(character in whole for character in " \n\t")
        and any("é" <= c <= "ž" for c in whole)
        and max(whole) > "\U0001f300"
    )
    assert whole.encode().decode() == whole and all(1 <= len(text) <= 24 for text in found)


def test_a_sentencepiece_file_that_says_otherwise_is_seen(forms, words, texts, tmp_path) -> None:
    base = forms["english"]
    additions = continue_merges(base, words(base, "ru"), limit=80).tokens
    new, fewer = extended(base, additions), extended(base, additions[:70])
    file = tmp_path / "tokenizer.model"
    write_sentencepiece(base.path, file, state=new.state)
    texts = [*texts["ru"][:50], "<s>"]
    good = same_in_sentencepiece(base, new, file, texts)
    assert (good.held, good.of, good.promised) == (50, 50, True), "`<s>` differs in the base already"
    assert same_in_sentencepiece(base, fewer, file, texts).broken
