"""A cut vocabulary keeps what the text uses, with all that it is made of, and the segmentation of kept text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

from lep.core.vocabulary import Kind
from lep.errors import DataError, TokenizerError
from lep.io.sentencepiece_file import write_sentencepiece
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.pruning import Cut, cut

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
def made(forms, words) -> dict[str, Cut]:
    """Each base cut to what English uses most, with a little Russian."""
    found = {}
    for form, size in SIZES.items():
        used = [*words(forms[form], "en"), *words(forms[form], "ru")[:30]]
        found[form] = cut(forms[form], used, size=size)
    return found


@pytest.mark.parametrize("form", FORMS)
def test_so_many_tokens_are_kept_in_order_with_the_same_bytes(forms, made, form) -> None:
    base, small = forms[form].vocabulary, made[form]
    new = small.tokenizer.vocabulary
    assert len(new) == len(small.base_ids) == SIZES[form] < len(base)
    assert small.base_ids == sorted(set(small.base_ids))
    assert list(new.tokens) == [base.tokens[id_] for id_ in small.base_ids]
    assert list(new.kinds) == [base.kinds[id_] for id_ in small.base_ids]
    loaded = small.tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    assert sorted(loaded.values()) == list(range(SIZES[form])), "as `tokenizers` loads it, too"


@pytest.mark.parametrize("form", FORMS)
def test_special_tokens_bytes_and_the_alphabet_are_kept(forms, made, form) -> None:
    base, kept = forms[form].vocabulary, set(made[form].base_ids)
    for id_, (token, kind) in enumerate(zip(base.tokens, base.kinds, strict=True)):
        if kind in (Kind.SPECIAL, Kind.BYTE) or (len(token) == 1 and forms[form].scheme == "byte_level"):
            assert id_ in kept, token


@pytest.mark.parametrize("form", FORMS)
def test_every_kept_token_is_still_reached_and_all_its_parts_are_there(forms, made, form) -> None:
    base, small = forms[form], made[form].tokenizer
    for id_, old in enumerate(made[form].base_ids):
        text = small.tokenizer.id_to_token(id_)
        if [piece.id for piece in base.tokenizer.model.tokenize(text)] == [old]:
            assert [piece.id for piece in small.tokenizer.model.tokenize(text)] == [id_]
    stored = small.stored_pieces
    assert all({left, right, left + right} <= stored for left, right in small.merges)
    assert small.merges == [merge for merge in base.merges if merge in set(small.merges)], "in their order"


@pytest.mark.parametrize("form", FORMS)
@given(parts=TEXT)
@settings(max_examples=80, deadline=None)
def test_text_whose_tokens_are_all_kept_keeps_its_segmentation(forms, made, form, parts) -> None:
    small, text = made[form], " ".join(parts)
    old = forms[form].tokenizer.encode(text, add_special_tokens=False).ids
    new = [small.base_ids[id_] for id_ in small.tokenizer.tokenizer.encode(text, add_special_tokens=False).ids]
    if set(old) <= set(small.base_ids):
        assert new == old
    else:
        before, after = (forms[form].tokenizer.decode(ids, skip_special_tokens=False) for ids in (old, new))
        assert before == after, "the text is the same in any case"


@pytest.mark.parametrize("form", FORMS)
def test_most_words_are_such_text(forms, made, words, form) -> None:
    kept, model = set(made[form].base_ids), forms[form].tokenizer.model
    used = words(forms[form], "en")
    such = sum(count for word, count in used if kept.issuperset(piece.id for piece in model.tokenize(word)))
    assert such > 0.5 * sum(count for _, count in used)
    assert 0.7 < made[form].share < 1


def test_the_most_used_tokens_are_kept(forms, words) -> None:
    base = forms["pairs"]
    once = cut(base, [("Ġthe", 5)], size=300)
    assert b" the" in once.tokenizer.vocabulary.tokens and (once.used, once.share) == (1, 1.0)
    english = cut(base, words(base, "en"), size=400)
    mixed = cut(base, [*words(base, "en"), *((word, 50 * count) for word, count in words(base, "ru"))], size=400)
    cyrillic = [sum(token >= b"\xd0\x80" for token in made.tokenizer.vocabulary.tokens) for made in (english, mixed)]
    assert cyrillic[0] < cyrillic[1]


def test_what_is_not_needed_can_be_cut_and_all_can_be_kept(forms, words) -> None:
    base = forms["pairs"]
    least = cut(base, words(base, "ru"), size=259).tokenizer  # 256 bytes, three special tokens
    assert least.merges == [] and least.tokenizer.decode(least.tokenizer.encode("да €").ids) == "да €"
    whole = cut(base, words(base, "ru"), size=500)
    assert whole.base_ids == list(range(500)) and whole.tokenizer.merges == base.merges


@pytest.mark.parametrize("size", [258, 501])
def test_a_size_outside_of_what_is_possible_is_an_error(forms, size) -> None:
    with pytest.raises(DataError, match=rf"cannot keep {size} tokens: it has 500, and 259 of them .* kept_tokens"):
        cut(forms["pairs"], [("да", 1)], size=size)


def test_the_post_processor_and_the_padding_get_the_new_ids(forms, words) -> None:
    """Special tokens after the others move: all that names them by id has to follow."""
    base = forms["tiktoken"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": len(base.vocabulary), "content": "<|begin|>"} | flags]
    item = {"SpecialToken": {"id": "<|begin|>", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [item, {"Sequence": {"id": "A", "type_id": 0}}], "pair": []}
    template["special_tokens"] = {"<|begin|>": {"id": "<|begin|>", "ids": [added[0]["id"]], "tokens": ["<|begin|>"]}}
    padding = {"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": added[0]["id"], "pad_type_id": 0, "pad_token": "<|begin|>"}
    state = base.state | {"added_tokens": added, "padding": padding}
    state["post_processor"] = {"type": "Sequence", "processors": [base.state["post_processor"] or template, template]}
    small = cut(TokenizerFile(base.path, state, base.scheme), words(base, "en"), size=300)
    one, more = Tokenizer.from_str(json.dumps(small.tokenizer.state)).encode_batch(["a", "a b c"])
    assert small.base_ids[-1] == added[0]["id"]
    assert one.ids[0] == more.ids[0] == 299 == one.ids[-1], "begins and is padded with the new id"


@pytest.mark.parametrize("form", ["sentencepiece_bpe", "user_defined"])
@given(parts=TEXT)
@settings(max_examples=40, deadline=None)
def test_the_sentencepiece_file_gives_the_same_ids(forms, made, form, tmp_path_factory, parts) -> None:
    base, small, text = forms[form], made[form].tokenizer, " ".join(parts)
    file: Path = tmp_path_factory.getbasetemp() / f"cut-{form}.model"
    if not file.exists():
        write_sentencepiece(base.path, file, state=small.state)
    old, new = (SentencePieceProcessor(model_file=str(path)).encode(text) for path in (base.path, file))
    if base.tokenizer.encode(text, add_special_tokens=False).ids == old:
        assert small.tokenizer.encode(text, add_special_tokens=False).ids == new


def test_a_base_without_merges_is_refused(tokenizers) -> None:
    with pytest.raises(TokenizerError, match="a Unigram tokenizer without merges cannot be continued or cut"):
        cut(read_tokenizer(tokenizers["sentencepiece_unigram"]), [("да", 1)], size=300)
