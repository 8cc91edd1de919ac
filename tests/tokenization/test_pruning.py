"""Pruned vocabularies keep what the text uses, the tokens that it is merged from, and the segmentation of kept text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from lep.core.vocabulary import TokenKind
from lep.errors import DataError, TokenizerError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.pruning import PrunedTokenizer, prune_tokenizer

SIZES = {
    "pairs": 380,
    "strings": 380,
    "ignore_merges": 380,
    "tiktoken": 380,
    "sentencepiece_bpe": 360,
    "metaspace": 360,
    "user_defined": 330,
}
FORMS = tuple(SIZES)
TEXT = st.lists(
    st.sampled_from(["the old professor", " Старый", "library", "1987", "  read", "<|im_end|>", "surprising"])
    | st.text("abcdefghijklmnopqrstuvwxyz абвгдежзийклмно(,.щ▁\n", max_size=20)
    | st.text(max_size=5)
)


@pytest.fixture(scope="module")
def pruned(forms, words) -> dict[str, PrunedTokenizer]:
    """Each base pruned to what English uses most, with a little Russian."""
    result = {}
    for form, size in SIZES.items():
        used = [*words(forms[form], "en"), *words(forms[form], "ru")[:30]]
        result[form] = prune_tokenizer(forms[form], used, size=size)
    return result


@pytest.mark.parametrize("form", FORMS)
def test_the_requested_number_of_tokens_is_kept_in_order_with_the_same_bytes(forms, pruned, form) -> None:
    base, small = forms[form].vocabulary, pruned[form]
    new = small.tokenizer.vocabulary
    assert len(new) == len(small.base_ids) == SIZES[form] < len(base)
    assert small.base_ids == sorted(set(small.base_ids))
    assert list(new.tokens) == [base.tokens[id_] for id_ in small.base_ids]
    assert list(new.kinds) == [base.kinds[id_] for id_ in small.base_ids]
    loaded = small.tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(loaded.values()) == list(range(SIZES[form])), "also as `tokenizers` loads it"


@pytest.mark.parametrize("form", FORMS)
def test_special_tokens_bytes_and_the_alphabet_are_kept(forms, pruned, form) -> None:
    base, kept = forms[form].vocabulary, set(pruned[form].base_ids)
    for id_, (token, kind) in enumerate(zip(base.tokens, base.kinds, strict=True)):
        if kind in (TokenKind.SPECIAL, TokenKind.BYTE_FALLBACK) or (
            len(token) == 1 and forms[form].scheme == "byte_level"
        ):
            assert id_ in kept, token


@pytest.mark.parametrize("form", FORMS)
def test_every_kept_token_is_still_reached_and_its_parts_are_kept(forms, pruned, form) -> None:
    base, small = forms[form], pruned[form].tokenizer
    for id_, old in enumerate(pruned[form].base_ids):
        text = small.tokenizer.id_to_token(id_)
        if [token.id for token in base.tokenizer.model.tokenize(text)] == [old]:
            assert [token.id for token in small.tokenizer.model.tokenize(text)] == [id_]
    stored = small.stored_tokens
    assert all({left, right, left + right} <= stored for left, right in small.merges)
    assert small.merges == [merge for merge in base.merges if merge in set(small.merges)], "in their order"


@pytest.mark.parametrize("form", FORMS)
@given(parts=TEXT)
@settings(max_examples=80, deadline=None)
def test_text_whose_tokens_are_all_kept_keeps_its_segmentation(forms, pruned, form, parts) -> None:
    small, text = pruned[form], " ".join(parts)
    old = forms[form].tokenizer.encode(text, add_special_tokens=False).ids
    new = [small.base_ids[id_] for id_ in small.tokenizer.tokenizer.encode(text, add_special_tokens=False).ids]
    if set(old) <= set(small.base_ids):
        assert new == old
    else:
        before, after = (forms[form].tokenizer.decode(ids, skip_special_tokens=False) for ids in (old, new))
        assert before == after, "the text is the same in any case"


@pytest.mark.parametrize("form", FORMS)
def test_most_words_keep_their_segmentation(forms, pruned, words, form) -> None:
    kept, model = set(pruned[form].base_ids), forms[form].tokenizer.model
    used = words(forms[form], "en")
    covered = sum(count for word, count in used if kept.issuperset(token.id for token in model.tokenize(word)))
    assert covered > 0.5 * sum(count for _, count in used)
    assert 0.7 < pruned[form].kept_fraction < 1


def test_the_most_used_tokens_are_kept(forms, words) -> None:
    base = forms["pairs"]
    once = prune_tokenizer(base, [("Ġthe", 5)], size=300)
    assert b" the" in once.tokenizer.vocabulary.tokens and (once.num_used, once.kept_fraction) == (1, 1.0)
    english = prune_tokenizer(base, words(base, "en"), size=400)
    mixed = prune_tokenizer(
        base, [*words(base, "en"), *((word, 50 * count) for word, count in words(base, "ru"))], size=400
    )
    cyrillic = [sum(token >= b"\xd0\x80" for token in part.tokenizer.vocabulary.tokens) for part in (english, mixed)]
    assert cyrillic[0] < cyrillic[1]


def test_the_smallest_and_the_largest_size(forms, words) -> None:
    base = forms["pairs"]
    smallest = prune_tokenizer(base, words(base, "ru"), size=259).tokenizer  # 256 bytes, three special tokens
    assert smallest.merges == [] and smallest.tokenizer.decode(smallest.tokenizer.encode("да €").ids) == "да €"
    largest = prune_tokenizer(base, words(base, "ru"), size=500)
    assert largest.base_ids == list(range(500)) and largest.tokenizer.merges == base.merges


@pytest.mark.parametrize("size", [258, 501])
def test_a_size_outside_the_possible_range_is_an_error(forms, size) -> None:
    with pytest.raises(DataError, match=rf"cannot keep {size} tokens: it has 500, and 259 of them .* kept_tokens"):
        prune_tokenizer(forms["pairs"], [("да", 1)], size=size)


def test_the_post_processor_and_the_padding_get_the_new_ids(forms, words) -> None:
    """Special tokens at the end get new ids, and so does everything that refers to them by id."""
    base = forms["tiktoken"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": len(base.vocabulary), "content": "<|begin|>"} | flags]
    item = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [item, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    template["special_tokens"] = {"<|begin|>": {"id": "<|begin|>", "ids": [added[0]["id"]], "tokens": ["<|begin|>"]}}
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": added[0]["id"], "pad_type_id": 0, "pad_token": "<|begin|>"}
    state = base.tokenizer_json | {"added_tokens": added, "padding": padding}
    state["post_processor"] = {
        "type": "Sequence",
        "processors": [base.tokenizer_json["post_processor"] or template, template],
    }
    small = prune_tokenizer(TokenizerFile(base.path, state, base.scheme), words(base, "en"), size=300)
    short, long = Tokenizer.from_str(json.dumps(small.tokenizer.tokenizer_json)).encode_batch(["a", "a b c"])
    assert small.base_ids[-1] == added[0]["id"]
    assert short.ids[0] == long.ids[0] == 299 == short.ids[-1], "starts and is padded with the new id"


@pytest.mark.parametrize("form", ["sentencepiece_bpe", "user_defined"])
@given(parts=TEXT)
@settings(max_examples=40, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(forms, pruned, form, tmp_path_factory, parts) -> None:
    base, small, text = forms[form], pruned[form].tokenizer, " ".join(parts)
    file: Path = tmp_path_factory.getbasetemp() / f"pruned-{form}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, tokenizer_json=small.tokenizer_json)
    old, new = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old:
        assert small.tokenizer.encode(text, add_special_tokens=False).ids == new


def test_a_base_without_merges_is_refused(tokenizers) -> None:
    with pytest.raises(TokenizerError, match="a Unigram tokenizer without merges cannot be extended or pruned"):
        prune_tokenizer(read_tokenizer(tokenizers["sentencepiece_unigram"]), [("да", 1)], size=300)
