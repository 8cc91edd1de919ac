"""Packed samples hold every token once a pass, in a reproducible order and in the shares of the mixture."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lep.data import packing
from lep.data.packed_dataset import PackedDataset
from lep.data.packing import pack_corpus
from lep.errors import DataError, TokenizerError, UsageError

from ..conftest import FAMILIES

SEQUENCE_LENGTH, PREFIX, END = 48, 1, 2
Chunk = tuple[int, ...]


def load(folder: Path) -> PreTrainedTokenizerBase:
    """With the prefix and the end of these tests."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.bos_token, tokenizer.eos_token = tokenizer.convert_ids_to_tokens([PREFIX, END])
    return tokenizer


@pytest.fixture(scope="module")
def tokenizer(tokenizers: dict[str, Path]) -> PreTrainedTokenizerBase:
    return load(tokenizers["byte_level"])


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory) -> Path:
    """ru: 60 documents of many lengths, some longer than a block, with lines; en: 100 short ones; poor: one word."""
    root = tmp_path_factory.mktemp("corpus")
    ru = [f"{i} " + "\n".join(texts["ru"][i : i + 4])[: 3 + 4 * i] for i in range(60)]
    en = [f"{i} {texts['en'][i]}" for i in range(100)]
    for language, tokenize_documents in {"ru": ru, "en": en, "poor": ["word"]}.items():
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in tokenize_documents]
        (root / f"{language}.train.jsonl").write_text("".join(lines))
    (root / "none.train.jsonl").write_text("")
    return root


@pytest.fixture
def pack(corpus, tokenizer, tmp_path):
    """Samples of the corpus, in a folder of their own."""
    num_packed = 0

    def pack(
        *,
        samples: int,
        seed: int = 0,
        folder: Path | None = None,
        sequence_length: int = SEQUENCE_LENGTH,
        **mixture: float,
    ):
        nonlocal num_packed
        num_packed += 1
        return pack_corpus(
            corpus,
            tokenizer,
            mixture={language: float(share) for language, share in mixture.items()},
            num_samples=samples,
            sequence_length=sequence_length,
            seed=seed,
            folder=folder or tmp_path / f"samples{num_packed}",
        )

    return pack


def tokenize_documents(corpus: Path, tokenizer: PreTrainedTokenizerBase, language: str) -> list[Chunk]:
    """Ids of each document, one at a time."""
    lines = (corpus / f"{language}.train.jsonl").read_text().splitlines()
    return [tuple(tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]) for line in lines]


def unpack(samples: PackedDataset) -> list[list[Chunk]]:
    """The parts in each sample."""
    rows = [samples[i]["input_ids"].tolist() for i in range(len(samples))]
    return [
        [tuple(row[a:b]) for a, b in pairwise(samples.document_boundaries(i).tolist())] for i, row in enumerate(rows)
    ]


def read_files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def count_chunks_of_a_pass(corpus: Path, tokenizer: PreTrainedTokenizerBase, language: str) -> Counter[Chunk]:
    """What a pass over a language must hold."""
    splitter = packing._build_splitter(tokenizer, sequence_length=SEQUENCE_LENGTH)
    actual: Counter[Chunk] = Counter()
    for ids in tokenize_documents(corpus, tokenizer, language):
        chunks = [tuple(chunk.tolist()) for chunk, _ in splitter.split(np.array(ids, dtype=np.int32))]
        assert sum((chunk[1:] for chunk in chunks), ()) == (*ids, END)
        actual.update(chunks)
    return actual


def test_each_sample_begins_with_the_prefix_and_is_not_too_long(pack) -> None:
    samples = pack(samples=50, ru=1)
    actual = unpack(samples)
    assert len(samples) == len(actual) == 50
    assert all(chunk[0] == PREFIX for chunks in actual for chunk in chunks)
    lengths = [sum(map(len, chunks)) for chunks in actual]
    assert min(lengths) > 1 and max(lengths) <= SEQUENCE_LENGTH
    assert samples.tokens == sum(lengths)
    assert (
        samples.token_counts.tolist()
        == np.bincount(np.concatenate([*map(np.concatenate, actual)]), minlength=500).tolist()
    )


@pytest.mark.parametrize("language", ["ru", "en"])
def test_each_pass_has_each_token_once(corpus, tokenizer, pack, language) -> None:
    expected = count_chunks_of_a_pass(corpus, tokenizer, language)
    assert expected.total() > len(tokenize_documents(corpus, tokenizer, language)) or language == "en"
    samples = pack(samples=400, **{language: 1})
    actual: Counter[Chunk] = Counter()
    passes = 0
    for chunks in unpack(samples):
        actual.update(chunks)
        if actual.total() >= expected.total():  # no sample has documents of two passes
            assert actual == expected
            passes, actual = passes + 1, Counter()
    assert actual <= expected
    assert 2 <= passes <= samples.epochs_by_language[language] < passes + 1


def test_epochs_are_counted_by_the_ends_of_documents(pack, corpus, tokenizer) -> None:
    samples = pack(samples=70, ru=1, en=1)
    en = count_chunks_of_a_pass(corpus, tokenizer, "en").keys()
    ends = Counter()
    for chunks in unpack(samples):
        ends["en" if chunks[0] in en else "ru"] += sum(chunk[-1] == END for chunk in chunks)
    assert samples.epochs_by_language == {"ru": ends["ru"] / 60, "en": ends["en"] / 100}


def test_samples_are_dense(texts, tokenizer, tmp_path) -> None:
    lengths = np.random.default_rng(0).lognormal(4, 1, size=1000).astype(int)
    lines = [json.dumps({"text": texts["en"][i][: 3 + length]}) + "\n" for i, length in enumerate(lengths)]
    (tmp_path / "en.train.jsonl").write_text("".join(lines))
    samples = pack_corpus(
        tmp_path,
        tokenizer,
        mixture={"en": 1.0},
        num_samples=200,
        sequence_length=SEQUENCE_LENGTH,
        seed=0,
        folder=tmp_path / "samples",
    )
    assert samples.epochs_by_language["en"] < 1
    assert samples.tokens / (200 * SEQUENCE_LENGTH) > 0.97


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_those_of_the_tokenizer_and_splits_are_at_newlines(tokenizers, texts, tmp_path, family) -> None:
    tokenizer = load(tokenizers[family])
    document = "\n".join(texts["ru"][:3]) + "\n\n" + texts["en"][0] + "\nĊ ▁"
    (tmp_path / "ru.train.jsonl").write_text(json.dumps({"text": document}) + "\n")
    expected = tokenizer(document, add_special_tokens=False)["input_ids"]
    samples = pack_corpus(
        tmp_path,
        tokenizer,
        mixture={"ru": 1.0},
        num_samples=40,
        sequence_length=len(expected),
        seed=0,
        folder=tmp_path / "samples",
    )
    ends = [i for i, id_ in enumerate(expected) if "\n" in tokenizer.decode([id_])]
    assert len(ends) in (4, 5)  # of two line breaks some make one token
    assert (
        packing._build_splitter(tokenizer, sequence_length=SEQUENCE_LENGTH)
        .contains_newline[expected]
        .nonzero()[0]
        .tolist()
        == ends
    )
    after = ends[-1] + 1
    actual = {chunk for chunks in unpack(samples) for chunk in chunks}
    assert actual == {(PREFIX, *expected[:after]), (PREFIX, *expected[after:], END)}


def test_truncation_and_padding_of_the_tokenizer_are_off(tokenizers, corpus, pack, tmp_path) -> None:
    truncating = load(tokenizers["byte_level"])
    truncating.backend_tokenizer.enable_truncation(3)
    truncating.backend_tokenizer.enable_padding(length=20)
    pack_corpus(
        corpus,
        truncating,
        mixture={"en": 1.0},
        num_samples=9,
        sequence_length=SEQUENCE_LENGTH,
        seed=0,
        folder=tmp_path / "cut",
    )
    assert (tmp_path / "cut" / "token_ids.bin").read_bytes() == (
        pack(samples=9, en=1).folder / "token_ids.bin"
    ).read_bytes()


@pytest.mark.parametrize("cpu_count", [1, 5])
def test_the_order_depends_on_the_seed_only(pack, monkeypatch, cpu_count) -> None:
    first, other = (pack(samples=60, ru=1, en=1, seed=seed) for seed in (3, 4))
    monkeypatch.setattr(packing, "BATCH_BYTES", 100)
    monkeypatch.setattr(packing, "_CPU_COUNT", cpu_count)
    monkeypatch.setattr(packing, "_READ_CHUNK_BYTES", 7)
    again = pack(samples=60, ru=1, en=1, seed=3)
    assert read_files(first.folder) == read_files(again.folder)
    assert unpack(first) != unpack(other)


def test_more_samples_begin_with_the_same_ones(pack) -> None:
    short, long = (pack(samples=count, ru=2, en=1) for count in (30, 60))
    assert unpack(long)[:30] == unpack(short)


@pytest.mark.parametrize("unit", [1, 10, 0.1])
def test_languages_have_their_shares_of_tokens(corpus, tokenizer, pack, unit) -> None:
    samples = pack(samples=80, ru=3 * unit, en=unit)
    en = count_chunks_of_a_pass(corpus, tokenizer, "en").keys()
    tokens = Counter()
    for chunks in unpack(samples):
        assert len({chunk in en for chunk in chunks}) == 1
        tokens["en" if chunks[0] in en else "ru"] += sum(map(len, chunks))
    assert tokens["ru"] - 3 * tokens["en"] == pytest.approx(0, abs=4 * SEQUENCE_LENGTH)  # within one block


def test_finished_samples_are_opened(pack, tmp_path, corpus, monkeypatch) -> None:
    first = pack(samples=20, ru=1, folder=tmp_path / "kept")
    monkeypatch.setattr(packing, "write_packed_samples", None)
    again = pack(samples=20, ru=1, folder=tmp_path / "kept")
    assert again[7]["input_ids"].tolist() == first[7]["input_ids"].tolist()
    assert (again.tokens, again.epochs_by_language) == (first.tokens, first.epochs_by_language)


@pytest.mark.parametrize(
    "change",
    [{"samples": 21}, {"seed": 1}, {"sequence_length": SEQUENCE_LENGTH + 1}, {"en": 1}],
    ids=lambda change: next(iter(change)),
)
def test_samples_of_other_settings_are_replaced(pack, tmp_path, change) -> None:
    settings = {"samples": 20, "ru": 1}
    pack(folder=tmp_path / "kept", **settings)
    changed = pack(folder=tmp_path / "kept", **settings | change)
    assert read_files(changed.folder) == read_files(pack(**settings | change).folder)


def test_samples_of_another_corpus_or_tokenizer_are_replaced(corpus, tokenizers, tmp_path) -> None:
    copy = tmp_path / "corpus"
    copy.mkdir()
    text = (corpus / "en.train.jsonl").read_text()
    counts = []
    for name, content in (
        ("byte_level", text),
        ("byte_level", text.upper().replace("TEXT", "text")),
        ("russian_byte_level", text),
    ):
        (copy / "en.train.jsonl").write_text(content)
        samples = pack_corpus(
            copy,
            load(tokenizers[name]),
            mixture={"en": 1.0},
            num_samples=20,
            sequence_length=SEQUENCE_LENGTH,
            seed=0,
            folder=tmp_path / "samples",
        )
        counts.append(samples.token_counts.tolist())
    assert counts[0] != counts[1] != counts[2]


def test_interrupted_samples_are_packed_again(pack, tmp_path, monkeypatch) -> None:
    uninterrupted = read_files(pack(samples=40, ru=1).folder)

    def interrupt(self, chunk, *, completes_document):
        if chunk[1] % 5 == 0:
            raise KeyboardInterrupt
        return original(self, chunk, completes_document=completes_document)

    original = packing.PackedSample.with_chunk
    pack(samples=10, en=1, folder=tmp_path / "kept")  # finished samples of other settings are no excuse
    monkeypatch.setattr(packing.PackedSample, "with_chunk", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pack(samples=40, ru=1, folder=tmp_path / "kept")
    monkeypatch.undo()
    assert not (tmp_path / "kept" / "metadata.json").exists()
    assert read_files(pack(samples=40, ru=1, folder=tmp_path / "kept").folder) == uninterrupted


def test_a_corpus_without_the_language_or_without_enough_text_is_refused(pack) -> None:
    with pytest.raises(DataError, match="no text of language 'de'; it has: en, none, poor, ru"):
        pack(samples=4, de=1)
    with pytest.raises(DataError, match="holds no documents to train on"):
        pack(samples=4, none=1)
    with pytest.raises(
        DataError, match=r"poor.train.jsonl: .* have \d tokens, fewer than one sample of 48; collect more"
    ):
        pack(samples=4, poor=1)
    with pytest.raises(DataError, match=r"en.train.jsonl: .* tokens, fewer than one sample of 10,000"):
        pack(samples=4, en=1, sequence_length=10_000)


def test_settings_and_tokenizers_that_cannot_work_are_named(pack, corpus, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"sequence_length=2: .* at least 3"):
        pack(samples=4, ru=1, sequence_length=2)

    class Slow(PreTrainedTokenizerBase):
        is_fast = False

    with pytest.raises(TokenizerError, match=r"a tokenizer\.json"):
        pack_corpus(corpus, Slow(), mixture={"ru": 1.0}, num_samples=1, sequence_length=9, seed=0, folder=tmp_path)


@pytest.mark.parametrize("line", ["{", "3", '{"other": "a"}', '{"text": 3}', r'{"text": "\ud800"}', ""])
def test_an_invalid_line_is_named(tokenizer, tmp_path, line) -> None:
    (tmp_path / "ru.train.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(DataError, match=r"ru.train.jsonl: the line at byte 14 .* collect the corpus again"):
        pack_corpus(
            tmp_path,
            tokenizer,
            mixture={"ru": 1.0},
            num_samples=1,
            sequence_length=9,
            seed=0,
            folder=tmp_path / "samples",
        )


def test_too_little_disk_space_is_an_error_before_packing(pack) -> None:
    with pytest.raises(DataError, match=r"GB are free on the disk; train on fewer tokens"):
        pack(samples=10**13, ru=1)
