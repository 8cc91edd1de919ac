"""Checks pass for correct vocabularies, and each of them fails for a broken one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile
from lep.results.stages import VocabularyCheck
from lep.tokenization.builders import (
    BuiltVocabulary,
    build_bpe_candidate,
    build_extended_candidate,
    build_optimized_candidate,
    build_unigram_candidate,
)
from lep.tokenization.merge_continuation import append_tokens, continue_merges
from lep.tokenization.validation import check_sentencepiece_file, check_tokenizer, random_unicode_texts

NAMES = ["special_tokens", "special_ids", "old_ids", "settings", "round_trips", "reachable", "base_ids"]
CANDIDATES: dict[str, Callable[..., Any]] = {
    "extended": lambda base, words: build_extended_candidate(base, words, lambda _: 60),
    "optimized": lambda base, words: build_optimized_candidate(base, words, lambda _: 60, kept_tokens=370),
    "bpe": lambda base, words: build_bpe_candidate(base, words, lambda _: 100),
    "unigram": lambda base, words: build_unigram_candidate(base, words, lambda _: 90),
}
REQUIRED = {
    "extended": set(NAMES),
    "optimized": set(NAMES) - {"special_ids", "old_ids"},
    "bpe": {"special_tokens", "settings", "round_trips", "reachable"},
    "unigram": {"special_tokens", "settings", "round_trips"},
}


def run_checks(base: TokenizerFile, built: BuiltVocabulary, kind: str, texts: list[str]) -> dict[str, VocabularyCheck]:
    checks = check_tokenizer(base, built.tokenizer, kind=kind, expansions=built.expansions, texts=texts)
    return {check.name: check for check in checks}


def change_tokenizer(built: BuiltVocabulary, change: Callable[[dict[str, Any]], None]) -> BuiltVocabulary:
    state = json.loads(json.dumps(built.tokenizer.tokenizer_json))
    change(state)
    return BuiltVocabulary(TokenizerFile(built.tokenizer.path, state, built.tokenizer.scheme), built.expansions)


@pytest.fixture(scope="module")
def built(forms, words) -> BuiltVocabulary:
    """byte_level extended by 60 Russian tokens."""
    candidate = CANDIDATES["extended"](forms["pairs"], words(forms["pairs"], "ru"))
    return candidate.build(candidate.num_available)


FORMS = ("pairs", "tiktoken", "sentencepiece_bpe", "english")


@pytest.mark.parametrize(
    ("form", "kind"), [(f, k) for f in FORMS for k in CANDIDATES if (f, k) != ("english", "optimized")]
)
def test_new_vocabularies_pass_every_required_check(forms, words, texts, form, kind) -> None:
    base = forms[form]
    candidate = CANDIDATES[kind](base, words(base, "ru"))
    checks = run_checks(base, candidate.build(candidate.num_available), kind, texts["ru"][:50] + texts["en"][:50])
    assert not [check for check in checks.values() if check.failed]
    assert {name for name, check in checks.items() if check.required} == REQUIRED[kind]
    special = len(base.added_tokens)
    assert checks["special_tokens"].passed == special and checks["settings"].total == 3
    assert checks["round_trips"].total > 1000 and checks["reachable"].total > 20
    assert ("base_ids" in checks) == (kind in ("extended", "optimized"))
    if kind == "extended":
        assert checks["old_ids"].total == len(base.vocabulary) and checks["special_ids"].total == special
        assert checks["base_ids"].total == 1100, "every text"


def test_a_check_fails_when_it_is_required_and_incomplete() -> None:
    assert VocabularyCheck("x", 1, 2, True).failed
    assert (
        not VocabularyCheck("x", 1, 2, False).failed
        and not VocabularyCheck("x", 2, 2, True).failed
        and not VocabularyCheck("x", 0, 0, True).failed
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
    """Move all new merges before the old ones: the base's segmentation no longer comes first."""
    merges = state["model"]["merges"]
    state["model"]["merges"] = merges[-60:] + merges[:-60]


def swap_new(state: dict[str, Any]) -> None:
    """Swap two new tokens: both can be reached, but neither has the stated expansion."""
    vocab = state["model"]["vocab"]
    first, second = sorted(vocab, key=vocab.__getitem__)[-2:]
    vocab[first], vocab[second] = vocab[second], vocab[first]


VIOLATIONS = {
    rename_special: {"special_tokens", "special_ids", "old_ids"},
    swap_special: {"special_ids", "old_ids"},
    swap_old: {"old_ids", "base_ids"},
    drop_decoder: {"settings"},
    lower: {"settings", "round_trips", "base_ids"},
    drop_merge: {"reachable"},
    merge_first: {"base_ids", "reachable"},
    swap_new: {"base_ids"},
}


@pytest.mark.parametrize("change", VIOLATIONS, ids=lambda change: change.__name__)
def test_each_violation_is_detected(forms, built, texts, change) -> None:
    checks = run_checks(forms["pairs"], change_tokenizer(built, change), "extended", [*texts["ru"], "QZ", "ZQ Q"])
    assert {name for name, check in checks.items() if check.failed} == VIOLATIONS[change]


def test_a_check_that_is_not_required_is_reported_but_does_not_fail(forms, built, texts) -> None:
    checks = run_checks(forms["pairs"], change_tokenizer(built, drop_merge), "unigram", texts["ru"])
    assert checks["reachable"].passed == checks["reachable"].total - 1 and not checks["reachable"].failed


def test_ids_of_special_tokens_are_checked_though_another_token_has_the_same_bytes(forms, texts) -> None:
    """An added token may spell what the model spells too: the id of the one says nothing about the id of the other."""
    bare, last = forms["tiktoken"], len(forms["tiktoken"].vocabulary)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}

    def with_added(*names: str) -> TokenizerFile:
        added = [{"id": last + i, "content": name} | flags for i, name in enumerate(names)]
        return TokenizerFile(bare.path, bare.tokenizer_json | {"added_tokens": added}, bare.scheme)

    base, moved = with_added("Q", "<|a|>"), with_added("<|a|>", "Q")
    same = {id_: (id_,) for id_ in range(last + 2)}
    assert base.vocabulary.tokens.index(b"Q") < last
    assert run_checks(base, BuiltVocabulary(base, same), "extended", texts["en"])["special_ids"].passed == 2
    assert run_checks(base, BuiltVocabulary(moved, same), "extended", texts["en"])["special_ids"].passed == 0


def test_random_texts_have_many_scripts_and_are_the_same_every_time() -> None:
    texts = random_unicode_texts(1000)
    assert texts == random_unicode_texts(1000) and texts[:10] == random_unicode_texts(10) and len(set(texts)) > 950
    joined = "".join(texts)
    assert (
        all(character in joined for character in " \n\t")
        and any("é" <= c <= "ž" for c in joined)
        and max(joined) > "\U0001f300"
    )
    assert joined.encode().decode() == joined and all(1 <= len(text) <= 24 for text in texts)


def test_a_sentencepiece_file_with_other_ids_is_detected(forms, words, texts, tmp_path) -> None:
    base = forms["english"]
    tokens = continue_merges(base, words(base, "ru"), max_tokens=80).tokens
    new, fewer = append_tokens(base, tokens), append_tokens(base, tokens[:70])
    file = tmp_path / "tokenizer.model"
    write_sentencepiece(base.path, file, tokenizer_json=new.tokenizer_json)
    texts = [*texts["ru"][:50], "<s>"]
    check = check_sentencepiece_file(base, new, file, texts)
    assert (check.passed, check.total, check.required) == (50, 50, True), "`<s>` differs in the base already"
    assert check_sentencepiece_file(base, fewer, file, texts).failed
