"""Comparison of two tokenizers: numbers counted by hand on two tiny ones, and invariants of any two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.core.vocabulary import TokenKind
from lep.data.corpus import HELDOUT_SHARE, hash_document, is_heldout
from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer
from lep.tokenization import comparison
from lep.tokenization.comparison import TokenizerComparison, compare_tokenizers, tabulate_comparison

from ..conftest import FAMILIES


def write_tokenizer(folder: Path, *, vocab: str, merges: list[str], added: dict[str, int]) -> Path:
    """A byte-level BPE tokenizer; `vocab` in the order of the ids."""
    tokens = {token: id_ for id_, token in enumerate(vocab.split())}
    model = {"type": "BPE", "vocab": tokens | added, "merges": [merge.split() for merge in merges]}
    split = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    specials = [{"id": id_, "content": text} | flags for text, id_ in added.items()]
    state = {"added_tokens": specials, "pre_tokenizer": split, "decoder": split, "model": model}
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(state))
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """A: 11 tokens, one special, two unassigned ids; `abc` has no merge, `к` (`Ðº`) has one. B: 5 tokens, two special,
    of which `1` is a normal token of A."""
    vocab, merges = "a b c Ġ 1 Ð º ab Ðº abc Ġab", ["a b", "Ð º", "Ġ ab"]
    a = write_tokenizer(tmp_path / "a", vocab=vocab, merges=merges, added={"<s>": 13})
    b = write_tokenizer(tmp_path / "b", vocab="a b c Ġ bc", merges=["b c"], added={"<s>": 5, "1": 6})
    return a, b


@pytest.fixture
def two_texts(tmp_path: Path) -> Path:
    """Latin in one language, a Cyrillic letter in the other, and a file that holds no documents."""
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "latin.txt").write_text("ab abc ab")
    (folder / "mixed.txt").write_text("к ab")
    (folder / "items.jsonl").write_text('{"prompt": "ab"}\n{"prompt": "c"}\n')
    return folder


def test_vocabularies_counted_by_hand(pair: tuple[Path, Path]) -> None:
    result = compare_tokenizers(*pair)
    a, b = result.a, result.b
    assert (a.tokens, a.special_tokens, a.unassigned_ids) == (12, 1, 2) and (
        b.tokens,
        b.special_tokens,
        b.unassigned_ids,
    ) == (7, 2, 0)
    assert a.scripts == {"Latin": 6, "no letters": 2, "partial UTF-8": 2, "Cyrillic": 1}
    assert b.scripts == {"Latin": 4, "no letters": 1}
    assert (a.shared, a.unique) == (5, 7)  # a b c Ġ <s>
    assert (b.shared, b.unique) == (5, 2)  # all but bc and the special 1
    assert (a.unreachable, b.unreachable) == (1, 0)  # abc is segmented into ab + c
    assert (a.unused_in_texts, a.languages, result.samples, result.bytes_per_token_ratios) == (None, {}, {}, {})


def test_texts_counted_by_hand(pair: tuple[Path, Path], two_texts: Path) -> None:
    result = compare_tokenizers(*pair, texts=two_texts)
    latin, mixed = result.a.languages["latin"], result.a.languages["mixed"]
    assert latin.tokens == 4  # ab|Ġab c|Ġab
    assert latin.bytes_per_token == latin.characters_per_token == 9 / 4
    assert mixed.tokens == 2 and mixed.bytes_per_token == 5 / 2 and mixed.characters_per_token == 4 / 2  # к|Ġab
    assert (
        latin.few_token_word_fraction == mixed.few_token_word_fraction == 1 and mixed.unencodable_word_fraction == 0
    )  # Ġab, Ġab c, Ġ к
    assert result.a.unused_in_texts == 11 - 4  # ab, Ġab, c, к

    latin, mixed = result.b.languages["latin"], result.b.languages["mixed"]
    assert latin.tokens == 8 and latin.bytes_per_token == 9 / 8  # a b|Ġ a bc|Ġ a b
    assert (latin.few_token_word_fraction, latin.unencodable_word_fraction) == (0, 0)
    assert mixed.tokens == 3 and (mixed.few_token_word_fraction, mixed.unencodable_word_fraction) == (
        0,
        1 / 2,
    )  # bytes without a token are dropped
    assert result.b.unused_in_texts == 5 - 4  # c
    assert result.bytes_per_token_ratios == {"latin": 1 / 2, "mixed": pytest.approx(5 / 3 / (5 / 2))}


def test_a_tokenizer_without_tokens_for_a_text_has_no_ratio(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "ru.txt").write_text("кк")
    result = compare_tokenizers(*pair, texts=tmp_path / "ru.txt")
    assert result.a.languages["ru"].tokens == 2 and result.b.languages["ru"].tokens == 0
    assert result.b.languages["ru"].bytes_per_token is None and result.bytes_per_token_ratios == {"ru": None}
    assert ("ru", "% of words it cannot encode", 0.0, 100.0, None) in map(values, tabulate_comparison(result))


def values(row: comparison.TokenizerComparisonRow) -> tuple[object, ...]:
    return (row.group, row.metric, row.a, row.b, row.ratio)


def test_rows_have_every_group_and_a_ratio_where_it_is_meaningful(pair, two_texts: Path) -> None:
    table = list(map(values, tabulate_comparison(compare_tokenizers(*pair, texts=two_texts))))
    assert list(dict.fromkeys(row[0] for row in table)) == ["vocabulary", "tokens by script", "latin", "mixed"]
    assert table[0] == ("vocabulary", "tokens", 12, 7, 7 / 12)
    assert ("vocabulary", "unreachable tokens", 1, 0, None) in table
    assert ("vocabulary", "tokens unused in the texts", 7, 1, None) in table
    assert ("tokens by script", "Latin", 6, 4, 4 / 6) in table
    assert ("tokens by script", "Cyrillic", 1, 0, None) in table
    assert ("latin", "bytes per token", 9 / 4, 9 / 8, 1 / 2) in table
    assert ("latin", "% of words in ≤ 2 tokens", 100, 0, None) in table
    assert not [row for row in table if row[:2] == ("latin", "% of words it cannot encode")]
    assert "tokens unused in the texts" not in [row.metric for row in tabulate_comparison(compare_tokenizers(*pair))]


@pytest.mark.parametrize("second", FAMILIES)
@pytest.mark.parametrize("first", ["byte_level", "sentencepiece_bpe"])
def test_counts_of_any_two_add_up_and_agree_with_the_map(first: str, second: str, tokenizers) -> None:
    a, b = (read_tokenizer(tokenizers[name]) for name in (first, second))
    result = compare_tokenizers(tokenizers[first], tokenizers[second])
    for side, read in ((result.a, a), (result.b, b)):
        assert side.special_tokens == read.vocabulary.kinds.count(TokenKind.SPECIAL)
        assert side.shared + side.unique == side.tokens
        assert sum(side.scripts.values()) == side.tokens - side.special_tokens
    assert result.b.shared == int(map_vocabularies(a, b).shared.sum())
    assert result.a.shared == int(map_vocabularies(b, a).shared.sum())


def test_the_reverse_order_is_the_same_comparison(tokenizers, texts, tmp_path: Path) -> None:
    names = ("byte_level", "sentencepiece_unigram")
    file = text_file(tmp_path / "ru.jsonl", texts["ru"])
    forward, reverse = (compare_tokenizers(tokenizers[x], tokenizers[y], texts=file) for x, y in (names, names[::-1]))
    assert (forward.a, forward.b, forward.samples) == (reverse.b, reverse.a, reverse.samples)
    assert (
        forward.bytes_per_token_ratios["ru"] == pytest.approx(1 / reverse.bytes_per_token_ratios["ru"])
        and forward.bytes_per_token_ratios["ru"] > 1
    )


def text_file(file: Path, documents: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return file


def ru(result: TokenizerComparison) -> tuple[comparison.TokenizationStats, comparison.TokenizationStats]:
    return result.a.languages["ru"], result.b.languages["ru"]


def test_a_sentencepiece_file_encodes_spaces_as_its_tokenizer_json_does(tokenizers, texts, tmp_path: Path) -> None:
    file = text_file(tmp_path / "ru.jsonl", texts["ru"])
    result = compare_tokenizers(tokenizers["sentencepiece_bpe"], tokenizers["metaspace"], texts=file)
    assert result.a.unique == result.b.unique == 0 and result.a.unreachable == result.b.unreachable
    assert result.bytes_per_token_ratios["ru"] == pytest.approx(1, abs=0.03)  # a metaspace may precede a text
    assert ru(result)[0].few_token_word_fraction == ru(result)[1].few_token_word_fraction


def test_truncation_and_padding_settings_are_ignored(pair, two_texts: Path, tmp_path: Path) -> None:
    truncation = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    padding = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    padding |= {"pad_id": 5, "pad_type_id": 0, "pad_token": "<s>"}
    state = json.loads((pair[1] / "tokenizer.json").read_text())
    (tmp_path / "truncating.json").write_text(json.dumps(state | {"truncation": truncation, "padding": padding}))
    result = compare_tokenizers(pair[1], tmp_path / "truncating.json", texts=two_texts)
    assert result.a.languages == result.b.languages and result.a.unused_in_texts == result.b.unused_in_texts


def test_the_heldout_split_is_read_up_to_the_limit(pair, texts, tmp_path: Path, monkeypatch) -> None:
    documents = sorted(set(texts["ru"]))
    heldout = [text for text in documents if is_heldout(hash_document(text), share=HELDOUT_SHARE)]
    file = text_file(tmp_path / "ru.jsonl", documents)
    sample = compare_tokenizers(*pair, texts=file).samples["ru"]
    assert (sample.split, sample.documents) == ("heldout", len(heldout)) and 0 < len(heldout) < len(documents)
    assert sample.characters == sum(map(len, heldout)) and sample.words == len(" ".join(heldout).split())
    monkeypatch.setattr(comparison, "MAX_CHARACTERS", len(heldout[0]) + 10)
    sample = compare_tokenizers(*pair, texts=file).samples["ru"]
    assert (sample.documents, sample.characters) == (2, len(heldout[0]) + 10)


def test_where_nothing_is_held_out_the_training_split_is_read_and_named(pair, two_texts: Path) -> None:
    result = compare_tokenizers(*pair, texts=two_texts)
    sample = result.samples["latin"]
    assert (sample.split, sample.documents, sample.characters, sample.words) == ("train", 1, 9, 3)
    assert str(sample) == "9 characters of 1 documents"


def test_languages_without_documents_are_left_out_and_named(pair, two_texts: Path) -> None:
    result = compare_tokenizers(*pair, texts=two_texts)
    assert list(result.a.languages) == list(result.bytes_per_token_ratios) == ["latin", "mixed"]
    assert str(result.samples["items"]) == "left out; 2 documents skipped: no text in 'text'"


def test_no_documents_at_all_is_an_error(pair, two_texts: Path) -> None:
    with pytest.raises(DataError, match=r"items.jsonl: no documents; .* 'text' \(items: left out; 2 documents skipped"):
        compare_tokenizers(*pair, texts=two_texts / "items.jsonl")
    with pytest.raises(DataError, match=r"blank.jsonl: no documents; .* \(blank: left out\)"):
        compare_tokenizers(*pair, texts=text_file(two_texts / "blank.jsonl", ["", " \n"]))


def test_missing_inputs_are_an_error(pair, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        compare_tokenizers(*pair, texts=tmp_path / "gone")
    with pytest.raises(TokenizerError, match=r"gone: neither tokenizer.json nor tokenizer.model"):
        compare_tokenizers(pair[0], tmp_path / "gone")
