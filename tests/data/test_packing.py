"""Samples hold every document whole or cut after a line, in a reproducible order and in the shares asked for."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lep.data import packing
from lep.data.packed_dataset import Samples
from lep.data.packing import pack_corpus
from lep.errors import DataError, TokenizerError, UsageError

from ..conftest import FAMILIES

BLOCK, PREFIX, END = 48, 1, 2
Part = tuple[int, ...]


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
    for language, documents in {"ru": ru, "en": en, "poor": ["word"]}.items():
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
        (root / f"{language}.train.jsonl").write_text("".join(lines))
    (root / "none.train.jsonl").write_text("")
    return root


@pytest.fixture
def pack(corpus, tokenizer, tmp_path):
    """Samples of the corpus, in a folder of their own."""
    made = 0

    def pack(*, samples: int, seed: int = 0, folder: Path | None = None, block: int = BLOCK, **mixture: float):
        nonlocal made
        made += 1
        return pack_corpus(
            corpus,
            tokenizer,
            mixture={language: float(share) for language, share in mixture.items()},
            samples=samples,
            block=block,
            seed=seed,
            folder=folder or tmp_path / f"samples{made}",
        )

    return pack


def documents(corpus: Path, tokenizer: PreTrainedTokenizerBase, language: str) -> list[Part]:
    """Ids of each document, one at a time."""
    lines = (corpus / f"{language}.train.jsonl").read_text().splitlines()
    return [tuple(tokenizer(json.loads(line)["text"], add_special_tokens=False)["input_ids"]) for line in lines]


def unpacked(samples: Samples) -> list[list[Part]]:
    """The parts in each sample."""
    rows = [samples[i]["input_ids"].tolist() for i in range(len(samples))]
    return [[tuple(row[a:b]) for a, b in pairwise(samples.edges(i).tolist())] for i, row in enumerate(rows)]


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def expected_parts(corpus: Path, tokenizer: PreTrainedTokenizerBase, language: str) -> Counter[Part]:
    """What a pass over a language must hold."""
    cut = packing._cutter(tokenizer, block=BLOCK)
    found: Counter[Part] = Counter()
    for ids in documents(corpus, tokenizer, language):
        parts = [tuple(part.tolist()) for part, _ in cut.parts(np.array(ids, dtype=np.int32))]
        assert sum((part[1:] for part in parts), ()) == (*ids, END)
        found.update(parts)
    return found


def test_each_sample_begins_with_the_prefix_and_is_not_too_long(pack) -> None:
    samples = pack(samples=50, ru=1)
    found = unpacked(samples)
    assert len(samples) == len(found) == 50
    assert all(part[0] == PREFIX for parts in found for part in parts)
    lengths = [sum(map(len, parts)) for parts in found]
    assert min(lengths) > 1 and max(lengths) <= BLOCK
    assert samples.tokens == sum(lengths)
    assert samples.counts.tolist() == np.bincount(np.concatenate([*map(np.concatenate, found)]), minlength=500).tolist()


@pytest.mark.parametrize("language", ["ru", "en"])
def test_each_pass_holds_each_token_once(corpus, tokenizer, pack, language) -> None:
    expected = expected_parts(corpus, tokenizer, language)
    assert expected.total() > len(documents(corpus, tokenizer, language)) or language == "en"
    samples = pack(samples=400, **{language: 1})
    found: Counter[Part] = Counter()
    passes = 0
    for parts in unpacked(samples):
        found.update(parts)
        if found.total() >= expected.total():  # no sample has documents of two passes
            assert found == expected
            passes, found = passes + 1, Counter()
    assert found <= expected
    assert 2 <= passes <= samples.passes[language] < passes + 1


def test_how_often_documents_were_read_is_counted_by_their_ends(pack, corpus, tokenizer) -> None:
    samples = pack(samples=70, ru=1, en=1)
    en = expected_parts(corpus, tokenizer, "en").keys()
    ends = Counter()
    for parts in unpacked(samples):
        ends["en" if parts[0] in en else "ru"] += sum(part[-1] == END for part in parts)
    assert samples.passes == {"ru": ends["ru"] / 60, "en": ends["en"] / 100}


def test_samples_are_dense(texts, tokenizer, tmp_path) -> None:
    lengths = np.random.default_rng(0).lognormal(4, 1, size=1000).astype(int)
    lines = [json.dumps({"text": texts["en"][i][: 3 + length]}) + "\n" for i, length in enumerate(lengths)]
    (tmp_path / "en.train.jsonl").write_text("".join(lines))
    samples = pack_corpus(
        tmp_path, tokenizer, mixture={"en": 1.0}, samples=200, block=BLOCK, seed=0, folder=tmp_path / "samples"
    )
    assert samples.passes["en"] < 1
    assert samples.tokens / (200 * BLOCK) > 0.97


@pytest.mark.parametrize("family", FAMILIES)
def test_ids_are_the_tokenizers_own_and_lines_end_where_they_do(tokenizers, texts, tmp_path, family) -> None:
    tokenizer = load(tokenizers[family])
    document = "\n".join(texts["ru"][:3]) + "\n\n" + texts["en"][0] + "\nĊ ▁"
    (tmp_path / "ru.train.jsonl").write_text(json.dumps({"text": document}) + "\n")
    expected = tokenizer(document, add_special_tokens=False)["input_ids"]
    samples = pack_corpus(
        tmp_path, tokenizer, mixture={"ru": 1.0}, samples=40, block=len(expected), seed=0, folder=tmp_path / "samples"
    )
    ends = [i for i, id_ in enumerate(expected) if "\n" in tokenizer.decode([id_])]
    assert len(ends) in (4, 5)  # of two line breaks some make one token
    assert packing._cutter(tokenizer, block=BLOCK).ends_line[expected].nonzero()[0].tolist() == ends
    after = ends[-1] + 1
    found = {part for parts in unpacked(samples) for part in parts}
    assert found == {(PREFIX, *expected[:after]), (PREFIX, *expected[after:], END)}


def test_what_the_tokenizer_would_cut_or_pad_is_whole(tokenizers, corpus, pack, tmp_path) -> None:
    cutting = load(tokenizers["byte_level"])
    cutting.backend_tokenizer.enable_truncation(3)
    cutting.backend_tokenizer.enable_padding(length=20)
    pack_corpus(corpus, cutting, mixture={"en": 1.0}, samples=9, block=BLOCK, seed=0, folder=tmp_path / "cut")
    assert (tmp_path / "cut" / "ids.bin").read_bytes() == (pack(samples=9, en=1).folder / "ids.bin").read_bytes()


@pytest.mark.parametrize("cores", [1, 5])
def test_one_seed_is_one_order_in_batches_of_any_size_on_any_cores(pack, monkeypatch, cores) -> None:
    first, other = (pack(samples=60, ru=1, en=1, seed=seed) for seed in (3, 4))
    monkeypatch.setattr(packing, "BATCH_BYTES", 100)
    monkeypatch.setattr(packing, "_CORES", cores)
    monkeypatch.setattr(packing, "_READ_BYTES", 7)
    again = pack(samples=60, ru=1, en=1, seed=3)
    assert files(first.folder) == files(again.folder)
    assert unpacked(first) != unpacked(other)


def test_a_longer_run_begins_as_a_shorter_one(pack) -> None:
    short, long = (pack(samples=count, ru=2, en=1) for count in (30, 60))
    assert unpacked(long)[:30] == unpacked(short)


@pytest.mark.parametrize("unit", [1, 10, 0.1])
def test_languages_have_the_shares_of_tokens_asked_for(corpus, tokenizer, pack, unit) -> None:
    samples = pack(samples=80, ru=3 * unit, en=unit)
    en = expected_parts(corpus, tokenizer, "en").keys()
    tokens = Counter()
    for parts in unpacked(samples):
        assert len({part in en for part in parts}) == 1
        tokens["en" if parts[0] in en else "ru"] += sum(map(len, parts))
    assert tokens["ru"] - 3 * tokens["en"] == pytest.approx(0, abs=4 * BLOCK)  # within one block


def test_finished_samples_are_not_made_again(pack, tmp_path, corpus, monkeypatch) -> None:
    first = pack(samples=20, ru=1, folder=tmp_path / "kept")
    monkeypatch.setattr(packing, "write_blocks", None)
    again = pack(samples=20, ru=1, folder=tmp_path / "kept")
    assert again[7]["input_ids"].tolist() == first[7]["input_ids"].tolist()
    assert (again.tokens, again.passes) == (first.tokens, first.passes)


@pytest.mark.parametrize(
    "change", [{"samples": 21}, {"seed": 1}, {"block": BLOCK + 1}, {"en": 1}], ids=lambda change: next(iter(change))
)
def test_samples_made_from_something_else_are_made_anew(pack, tmp_path, change) -> None:
    settings = {"samples": 20, "ru": 1}
    pack(folder=tmp_path / "kept", **settings)
    changed = pack(folder=tmp_path / "kept", **settings | change)
    assert files(changed.folder) == files(pack(**settings | change).folder)


def test_another_corpus_or_tokenizer_makes_other_samples(corpus, tokenizers, tmp_path) -> None:
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
            samples=20,
            block=BLOCK,
            seed=0,
            folder=tmp_path / "samples",
        )
        counts.append(samples.counts.tolist())
    assert counts[0] != counts[1] != counts[2]


def test_interrupted_samples_are_made_anew(pack, tmp_path, monkeypatch) -> None:
    whole = files(pack(samples=40, ru=1).folder)

    def interrupted(self, part, *, last):
        if part[1] % 5 == 0:
            raise KeyboardInterrupt
        return original(self, part, last=last)

    original = packing.Block.with_part
    pack(samples=10, en=1, folder=tmp_path / "kept")  # finished samples of other settings are no excuse
    monkeypatch.setattr(packing.Block, "with_part", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(samples=40, ru=1, folder=tmp_path / "kept")
    monkeypatch.undo()
    assert not (tmp_path / "kept" / "samples.json").exists()
    assert files(pack(samples=40, ru=1, folder=tmp_path / "kept").folder) == whole


def test_a_corpus_without_the_language_or_without_enough_text_is_refused(pack) -> None:
    with pytest.raises(DataError, match="no text of language 'de'; it has: en, none, poor, ru"):
        pack(samples=4, de=1)
    with pytest.raises(DataError, match="holds no documents to train on"):
        pack(samples=4, none=1)
    with pytest.raises(
        DataError, match=r"poor.train.jsonl: .* have \d tokens, and a block is larger: 48; collect more"
    ):
        pack(samples=4, poor=1)
    with pytest.raises(DataError, match=r"en.train.jsonl: .* tokens, and a block is larger: 10,000"):
        pack(samples=4, en=1, block=10_000)


def test_settings_and_tokenizers_that_cannot_work_are_named(pack, corpus, tmp_path) -> None:
    with pytest.raises(UsageError, match=r"block=2: .* at least 3"):
        pack(samples=4, ru=1, block=2)

    class Slow(PreTrainedTokenizerBase):
        is_fast = False

    with pytest.raises(TokenizerError, match=r"a tokenizer\.json"):
        pack_corpus(corpus, Slow(), mixture={"ru": 1.0}, samples=1, block=9, seed=0, folder=tmp_path)


@pytest.mark.parametrize("line", ["{", "3", '{"other": "a"}', '{"text": 3}', r'{"text": "\ud800"}', ""])
def test_a_line_that_is_no_document_is_named(tokenizer, tmp_path, line) -> None:
    (tmp_path / "ru.train.jsonl").write_text(f'{{"text": "a"}}\n{line}\n')
    with pytest.raises(DataError, match=r"ru.train.jsonl: what begins at byte 14 .* make the corpus again"):
        pack_corpus(tmp_path, tokenizer, mixture={"ru": 1.0}, samples=1, block=9, seed=0, folder=tmp_path / "samples")


def test_a_disk_that_is_too_small_is_refused_before_the_work(pack) -> None:
    with pytest.raises(DataError, match=r"9,6.. GB|GB are left on the disk; train on fewer tokens"):
        pack(samples=10**13, ru=1)
