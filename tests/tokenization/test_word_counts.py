"""Words are the pre-tokens of the tokenizer; counts are the same whether they fit in memory or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.word_counts import WeightedWordCounts, WordCounter, build_word_splitter, count_words

BATCHES = st.lists(st.lists(st.text("abcé😀▁\n\"'\u2028", min_size=1, max_size=2), max_size=12), max_size=12)


def count(batches: list[list[str]], **options: int) -> WordCounter:
    words = WordCounter(**options)
    for batch in batches:
        words.add(batch)
    return words


@given(batches=BATCHES, spill=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_spilled_counts_are_exact_above_the_minimum(batches, spill) -> None:
    expected = Counter(word for batch in batches for word in batch)
    spilled = count(batches, spill_threshold=spill)
    disk = bool(spilled._spilled_files)
    for _ in range(2):  # reading changes nothing
        items = list(spilled)
        assert len(items) == len(dict(items)), "each word once"
        assert dict(items) == {word: n for word, n in expected.items() if n >= (2 if disk else 1)}
    assert dict(count(batches)) == expected


def test_words_are_spilled_at_the_threshold() -> None:
    assert not count([["a", "b"]], spill_threshold=3)._spilled_files
    assert len(count([["a", "b", "c"]], spill_threshold=3)._spilled_files) == 1


def test_words_can_be_added_after_they_were_read() -> None:
    words = count([["a", "b"], ["a", "c"]], spill_threshold=2)
    assert dict(words) == {"a": 2}
    words.add(["b", "b"])
    assert dict(words) == {"a": 2, "b": 3}


def test_a_mixture_scales_languages_and_keeps_the_total() -> None:
    ru, en = count([["да"] * 80 + ["нет"] * 20]), count([["yes"] * 10])
    ru.characters, en.characters = 300, 100
    assert dict(WeightedWordCounts({"ru": ru, "en": en})) == {"да": 80, "нет": 20, "yes": 10}
    mixed = WeightedWordCounts({"ru": ru, "en": en}, {"ru": 1.0, "en": 3.0})
    assert mixed.factors["ru"] * 300 + mixed.factors["en"] * 100 == pytest.approx(400)
    assert mixed.factors["en"] * 100 == pytest.approx(3 * mixed.factors["ru"] * 300)
    assert dict(mixed) == {"да": round(80 / 3), "нет": round(20 / 3), "yes": 30}


def test_a_word_whose_count_rounds_to_zero_is_left_out() -> None:
    rare, frequent = count([["rare"], ["often"] * 9]), count([["word"]])
    rare.characters = frequent.characters = 10
    assert dict(WeightedWordCounts({"a": rare, "b": frequent}, {"a": 1.0, "b": 9.0})) == {"often": 2, "word": 2}


def test_words_of_a_byte_level_base_are_its_pre_tokenizers(tokenizers, texts) -> None:
    base = read_tokenizer(tokenizers["byte_level"])
    for text in texts["ru"][:20]:
        expected = [word for word, _ in base.tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert build_word_splitter(base)(text) == expected and len(expected) > 3


def with_pre_tokenizer(base: TokenizerFile) -> TokenizerFile:
    """As in newer tokenizer.json files: the pre-tokenizer writes the `▁`, not a normalizer."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return TokenizerFile(base.path, base.tokenizer_json | {"normalizer": None, "pre_tokenizer": metaspace}, base.scheme)


@pytest.mark.parametrize("form", ["sentencepiece_bpe", "sentencepiece_unigram", "metaspace", "pre_tokenizer"])
def test_words_of_a_sentencepiece_base_are_runs_with_the_space_before_them(tokenizers, form) -> None:
    base = read_tokenizer(tokenizers["metaspace" if form == "pre_tokenizer" else form])
    split = build_word_splitter(with_pre_tokenizer(base) if form == "pre_tokenizer" else base)
    words = ["▁Старый", "▁д", "'", "Артаньян", ",", "▁", "4", "2", "▁«", "ёж", "»!"]
    assert split("Старый д'Артаньян, 42 «ёж»!") == words
    assert "".join(split("a   b\n\nc ")) == "▁a▁▁▁b\n\nc▁"


def write(path: Path, documents: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def test_a_corpus_is_counted_by_language_and_invalid_documents_too(tokenizers, tmp_path) -> None:
    write(tmp_path / "ru.train.jsonl", ["да да", "нет"])
    write(tmp_path / "ru.heldout.jsonl", ["никогда"])
    (tmp_path / "en.txt").write_bytes(b"yes " * 5 + b"\n\n\xff\xfe\n")
    base = read_tokenizer(tokenizers["metaspace"])
    both = count_words(base, tmp_path, mixture=None)
    assert both.skipped == {"invalid UTF-8": 1} and both.factors == {"ru": 1, "en": 1}
    assert dict(both) == {"▁да": 2, "▁нет": 1, "▁yes": 5, "▁": 1}
    assert dict(count_words(base, tmp_path, mixture={"ru": 3.0})) == {"▁да": 2, "▁нет": 1}


def test_a_language_without_text_is_an_error(tokenizers, tmp_path) -> None:
    write(tmp_path / "ru.train.jsonl", [])
    base = read_tokenizer(tokenizers["metaspace"])
    with pytest.raises(DataError, match="there is no text of 'ru' to train on"):
        count_words(base, tmp_path, mixture={"ru": 1.0})
    with pytest.raises(DataError, match="no text of language 'de'; it has: ru"):
        count_words(base, tmp_path, mixture={"de": 1.0})
