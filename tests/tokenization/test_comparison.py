"""Two tokenizers side by side: numbers counted by hand on two tiny ones, and what must hold of any two."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.core.vocabulary import Kind
from lep.data.corpus import HELDOUT_SHARE, document_digest, is_heldout
from lep.errors import DataError, TokenizerError
from lep.io.tokenizer_file import map_vocabularies, read_tokenizer
from lep.tokenization import comparison
from lep.tokenization.comparison import Comparison, compare, rows

from .conftest import FAMILIES


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
    """A: 11 tokens, one special, two holes; `abc` has no merge, `к` (`Ðº`) has. B: 5 tokens, two special,
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
    found = compare(*pair)
    a, b = found.a, found.b
    assert (a.tokens, a.special, a.holes) == (12, 1, 2) and (b.tokens, b.special, b.holes) == (7, 2, 0)
    assert a.scripts == {"Latin": 6, "no letters": 2, "partial UTF-8": 2, "Cyrillic": 1}
    assert b.scripts == {"Latin": 4, "no letters": 1}
    assert (a.shared, a.alone) == (5, 7)  # a b c Ġ <s>
    assert (b.shared, b.alone) == (5, 2)  # all but bc and the special 1
    assert (a.unreachable, b.unreachable) == (1, 0)  # abc becomes ab + c
    assert (a.unused, a.languages, found.texts, found.b_over_a) == (None, {}, {}, {})


def test_texts_counted_by_hand(pair: tuple[Path, Path], two_texts: Path) -> None:
    found = compare(*pair, texts=two_texts)
    latin, mixed = found.a.languages["latin"], found.a.languages["mixed"]
    assert latin.tokens == 4  # ab|Ġab c|Ġab
    assert latin.bytes_per_token == latin.symbols_per_token == 9 / 4
    assert mixed.tokens == 2 and mixed.bytes_per_token == 5 / 2 and mixed.symbols_per_token == 4 / 2  # к|Ġab
    assert latin.words_in_few == mixed.words_in_few == 1 and mixed.words_unspelt == 0  # Ġab, Ġab c, Ġ к
    assert found.a.unused == 11 - 4  # ab, Ġab, c, к

    latin, mixed = found.b.languages["latin"], found.b.languages["mixed"]
    assert latin.tokens == 8 and latin.bytes_per_token == 9 / 8  # a b|Ġ a bc|Ġ a b
    assert (latin.words_in_few, latin.words_unspelt) == (0, 0)
    assert mixed.tokens == 3 and (mixed.words_in_few, mixed.words_unspelt) == (0, 1 / 2)  # what it lacks, it drops
    assert found.b.unused == 5 - 4  # c
    assert found.b_over_a == {"latin": 1 / 2, "mixed": pytest.approx(5 / 3 / (5 / 2))}


def test_a_tokenizer_that_writes_nothing_has_no_ratio(pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "ru.txt").write_text("кк")
    found = compare(*pair, texts=tmp_path / "ru.txt")
    assert found.a.languages["ru"].tokens == 2 and found.b.languages["ru"].tokens == 0
    assert found.b.languages["ru"].bytes_per_token is None and found.b_over_a == {"ru": None}
    assert ("ru", "% of words it cannot spell", 0.0, 100.0, None) in map(values, rows(found))


def values(row: comparison.Row) -> tuple[object, ...]:
    return (row.group, row.measure, row.a, row.b, row.ratio)


def test_rows_hold_every_group_and_a_ratio_where_it_means_something(pair, two_texts: Path) -> None:
    table = list(map(values, rows(compare(*pair, texts=two_texts))))
    assert list(dict.fromkeys(row[0] for row in table)) == ["vocabulary", "tokens by script", "latin", "mixed"]
    assert table[0] == ("vocabulary", "tokens", 12, 7, 7 / 12)
    assert ("vocabulary", "unreachable tokens", 1, 0, None) in table
    assert ("vocabulary", "tokens unused in the texts", 7, 1, None) in table
    assert ("tokens by script", "Latin", 6, 4, 4 / 6) in table
    assert ("tokens by script", "Cyrillic", 1, 0, None) in table
    assert ("latin", "bytes per token", 9 / 4, 9 / 8, 1 / 2) in table
    assert ("latin", "% of words in ≤ 2 tokens", 100, 0, None) in table
    assert not [row for row in table if row[:2] == ("latin", "% of words it cannot spell")]
    assert "tokens unused in the texts" not in [row.measure for row in rows(compare(*pair))]


@pytest.mark.parametrize("second", FAMILIES)
@pytest.mark.parametrize("first", ["byte_level", "sentencepiece_bpe"])
def test_counts_of_any_two_add_up_and_agree_with_the_map(first: str, second: str, tokenizers) -> None:
    a, b = (read_tokenizer(tokenizers[name]) for name in (first, second))
    found = compare(tokenizers[first], tokenizers[second])
    for side, read in ((found.a, a), (found.b, b)):
        assert side.special == read.vocabulary.kinds.count(Kind.SPECIAL)
        assert side.shared + side.alone == side.tokens
        assert sum(side.scripts.values()) == side.tokens - side.special
    assert found.b.shared == int(map_vocabularies(a, b).shared.sum())
    assert found.a.shared == int(map_vocabularies(b, a).shared.sum())


def test_the_other_way_round_is_the_same_comparison(tokenizers, texts, tmp_path: Path) -> None:
    names = ("byte_level", "sentencepiece_unigram")
    file = text_file(tmp_path / "ru.jsonl", texts["ru"])
    there, back = (compare(tokenizers[x], tokenizers[y], texts=file) for x, y in (names, names[::-1]))
    assert (there.a, there.b, there.texts) == (back.b, back.a, back.texts)
    assert there.b_over_a["ru"] == pytest.approx(1 / back.b_over_a["ru"]) and there.b_over_a["ru"] > 1


def text_file(file: Path, documents: list[str]) -> Path:
    file.write_text("".join(json.dumps({"text": document}) + "\n" for document in documents))
    return file


def ru(found: Comparison) -> tuple[comparison.Writing, comparison.Writing]:
    return found.a.languages["ru"], found.b.languages["ru"]


def test_a_sentencepiece_file_writes_spaces_as_its_tokenizer_json_does(tokenizers, texts, tmp_path: Path) -> None:
    file = text_file(tmp_path / "ru.jsonl", texts["ru"])
    found = compare(tokenizers["sentencepiece_bpe"], tokenizers["metaspace"], texts=file)
    assert found.a.alone == found.b.alone == 0 and found.a.unreachable == found.b.unreachable
    assert found.b_over_a["ru"] == pytest.approx(1, abs=0.03)  # a metaspace may stand before a text
    assert ru(found)[0].words_in_few == ru(found)[1].words_in_few


def test_a_tokenizer_that_would_cut_and_pad_writes_whole_texts(pair, two_texts: Path, tmp_path: Path) -> None:
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    pad = {"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": None}
    pad |= {"pad_id": 5, "pad_type_id": 0, "pad_token": "<s>"}
    state = json.loads((pair[1] / "tokenizer.json").read_text())
    (tmp_path / "cutting.json").write_text(json.dumps(state | {"truncation": cut, "padding": pad}))
    found = compare(pair[1], tmp_path / "cutting.json", texts=two_texts)
    assert found.a.languages == found.b.languages and found.a.unused == found.b.unused


def test_the_heldout_half_is_read_up_to_the_limit(pair, texts, tmp_path: Path, monkeypatch) -> None:
    documents = sorted(set(texts["ru"]))
    heldout = [text for text in documents if is_heldout(document_digest(text), share=HELDOUT_SHARE)]
    file = text_file(tmp_path / "ru.jsonl", documents)
    sample = compare(*pair, texts=file).texts["ru"]
    assert (sample.half, sample.documents) == ("heldout", len(heldout)) and 0 < len(heldout) < len(documents)
    assert sample.characters == sum(map(len, heldout)) and sample.words == len(" ".join(heldout).split())
    monkeypatch.setattr(comparison, "CHARACTERS", len(heldout[0]) + 10)
    sample = compare(*pair, texts=file).texts["ru"]
    assert (sample.documents, sample.characters) == (2, len(heldout[0]) + 10)


def test_where_nothing_is_held_out_the_other_half_is_read_and_the_sample_says_so(pair, two_texts: Path) -> None:
    found = compare(*pair, texts=two_texts)
    sample = found.texts["latin"]
    assert (sample.half, sample.documents, sample.characters, sample.words) == ("train", 1, 9, 3)
    assert str(sample) == "9 characters of 1 documents"


def test_languages_without_documents_are_left_out_and_named(pair, two_texts: Path) -> None:
    found = compare(*pair, texts=two_texts)
    assert list(found.a.languages) == list(found.b_over_a) == ["latin", "mixed"]
    assert str(found.texts["items"]) == "left out; 2 documents skipped: no text in 'text'"


def test_no_documents_at_all_is_an_error(pair, two_texts: Path) -> None:
    with pytest.raises(DataError, match=r"items.jsonl: no documents; .* 'text' \(items: left out; 2 documents skipped"):
        compare(*pair, texts=two_texts / "items.jsonl")
    with pytest.raises(DataError, match=r"blank.jsonl: no documents; .* \(blank: left out\)"):
        compare(*pair, texts=text_file(two_texts / "blank.jsonl", ["", " \n"]))


def test_what_is_not_there_is_an_error(pair, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="gone: no such file or folder"):
        compare(*pair, texts=tmp_path / "gone")
    with pytest.raises(TokenizerError, match=r"gone: neither tokenizer.json nor tokenizer.model"):
        compare(pair[0], tmp_path / "gone")
