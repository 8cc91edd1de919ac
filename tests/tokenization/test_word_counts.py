"""Words are the tokenizer's own, and counted the same whether they fit in memory or not."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.word_counts import WordMix, Words, count_words, splitter

BATCHES = st.lists(st.lists(st.text("abcé😀▁\n\"'\u2028", min_size=1, max_size=2), max_size=12), max_size=12)


def counted(batches: list[list[str]], **options: int) -> Words:
    words = Words(**options)
    for batch in batches:
        words.add(batch)
    return words


@given(batches=BATCHES, spill=st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_spilled_counts_are_the_true_ones_above_the_floor(batches, spill) -> None:
    true = Counter(word for batch in batches for word in batch)
    spilled = counted(batches, spill=spill)
    disk = bool(spilled._runs)
    for _ in range(2):  # reading changes nothing
        found = list(spilled)
        assert len(found) == len(dict(found)), "each word once"
        assert dict(found) == {word: count for word, count in true.items() if count >= (2 if disk else 1)}
    assert dict(counted(batches)) == true


def test_words_can_be_added_after_they_were_read() -> None:
    words = counted([["a", "b"], ["a", "c"]], spill=2)
    assert dict(words) == {"a": 2}
    words.add(["b", "b"])
    assert dict(words) == {"a": 2, "b": 3}


def test_a_mix_weighs_languages_and_keeps_the_sum() -> None:
    ru, en = counted([["да"] * 80 + ["нет"] * 20]), counted([["yes"] * 10])
    ru.characters, en.characters = 300, 100
    assert dict(WordMix({"ru": ru, "en": en})) == {"да": 80, "нет": 20, "yes": 10}
    mix = WordMix({"ru": ru, "en": en}, {"ru": 1.0, "en": 3.0})
    assert mix.factors["ru"] * 300 + mix.factors["en"] * 100 == pytest.approx(400)
    assert mix.factors["en"] * 100 == pytest.approx(3 * mix.factors["ru"] * 300)
    assert dict(mix) == {"да": round(80 / 3), "нет": round(20 / 3), "yes": 30}


def test_a_word_that_weighs_nothing_is_left_out() -> None:
    one, other = counted([["rare"], ["often"] * 9]), counted([["word"]])
    one.characters = other.characters = 10
    assert dict(WordMix({"one": one, "other": other}, {"one": 1.0, "other": 9.0})) == {"often": 2, "word": 2}


def test_words_of_a_byte_level_base_are_its_pre_tokenizers(tokenizers, texts) -> None:
    base = read_tokenizer(tokenizers["byte_level"])
    for text in texts["ru"][:20]:
        expected = [word for word, _ in base.tokenizer.pre_tokenizer.pre_tokenize_str(text)]
        assert splitter(base)(text) == expected and len(expected) > 3


def with_pre_tokenizer(base: TokenizerFile) -> TokenizerFile:
    """As newer tokenizer.json files have it: the pre-tokenizer writes the `▁`, no normalizer does."""
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    return TokenizerFile(base.path, base.state | {"normalizer": None, "pre_tokenizer": metaspace}, base.scheme)


@pytest.mark.parametrize("form", ["sentencepiece_bpe", "sentencepiece_unigram", "metaspace", "pre_tokenizer"])
def test_words_of_a_sentencepiece_base_are_runs_with_the_space_before_them(tokenizers, form) -> None:
    base = read_tokenizer(tokenizers["metaspace" if form == "pre_tokenizer" else form])
    split = splitter(with_pre_tokenizer(base) if form == "pre_tokenizer" else base)
    words = ["▁Старый", "▁д", "'", "Артаньян", ",", "▁", "4", "2", "▁«", "ёж", "»!"]
    assert split("Старый д'Артаньян, 42 «ёж»!") == words
    assert "".join(split("a   b\n\nc ")) == "▁a▁▁▁b\n\nc▁"


def write(path: Path, documents: list[str]) -> None:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))


def test_a_corpus_is_counted_by_language_and_bad_documents_too(tokenizers, tmp_path) -> None:
    write(tmp_path / "ru.train.jsonl", ["да да", "нет"])
    write(tmp_path / "ru.heldout.jsonl", ["никогда"])
    (tmp_path / "en.txt").write_bytes(b"yes " * 5 + b"\n\n\xff\xfe\n")
    base, skipped = read_tokenizer(tokenizers["metaspace"]), Counter[str]()
    both = count_words(base, tmp_path, mixture=None, skipped=skipped)
    assert skipped == {"invalid UTF-8": 1} and both.factors == {"ru": 1, "en": 1}
    assert dict(both) == {"▁да": 2, "▁нет": 1, "▁yes": 5, "▁": 1}
    assert dict(count_words(base, tmp_path, mixture={"ru": 3.0}, skipped=skipped)) == {"▁да": 2, "▁нет": 1}


def test_a_language_that_teaches_nothing_is_an_error(tokenizers, tmp_path) -> None:
    write(tmp_path / "ru.train.jsonl", [])
    base = read_tokenizer(tokenizers["metaspace"])
    with pytest.raises(DataError, match="there is no text of 'ru' to learn from"):
        count_words(base, tmp_path, mixture={"ru": 1.0}, skipped=Counter())
    with pytest.raises(DataError, match="no text of language 'de'; it has: ru"):
        count_words(base, tmp_path, mixture={"de": 1.0}, skipped=Counter())
