"""Samples hold every document, after its prefix, in a reproducible order and in the shares asked for."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lep.engine.packing import IGNORED, OPEN_BLOCKS, Samples, pack_corpus
from lep.errors import DataError

BLOCK, PREFIX = 48, 0


@pytest.fixture(scope="module")
def tokenizer(tokenizers: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


@pytest.fixture(scope="module")
def corpus(texts, tmp_path_factory) -> Path:
    """ru: 60 documents of many lengths, some longer than a block; en: 100 short ones."""
    root = tmp_path_factory.mktemp("corpus")
    ru = [f"{i} " + texts["ru"][i][: 3 + 2 * i] for i in range(60)]
    en = [f"{i} {texts['en'][i]}" for i in range(100)]
    for language, documents in {"ru": ru, "en": en}.items():
        lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
        (root / f"{language}.train.jsonl").write_text("".join(lines))
    (root / "none.train.jsonl").write_text("")
    return root


def pack(corpus: Path, tokenizer: PreTrainedTokenizerBase, *, samples: int, seed: int = 0, **mixture: float) -> Samples:
    shares = {language: float(share) for language, share in mixture.items()}
    return pack_corpus(corpus, tokenizer, mixture=shares, samples=samples, block=BLOCK, prefix=PREFIX, seed=seed)


def parts(corpus: Path, tokenizer: PreTrainedTokenizerBase, language: str) -> Counter[tuple[int, ...]]:
    """Every document as the parts that samples must hold."""
    found: Counter[tuple[int, ...]] = Counter()
    for line in (corpus / f"{language}.train.jsonl").read_text().splitlines():
        ids = tokenizer(json.loads(line)["text"])["input_ids"]
        found.update(tuple(ids[at : at + BLOCK - 1]) for at in range(0, len(ids), BLOCK - 1))
    return found


def unpacked(samples: Samples) -> list[list[tuple[int, ...]]]:
    """The parts in each sample."""
    found = []
    for row, length in zip(samples.ids.tolist(), samples.lengths.tolist(), strict=True):
        starts = [i for i in range(length) if row[i] == PREFIX]
        found.append([tuple(row[a + 1 : b]) for a, b in pairwise([*starts, length])])
    return found


def test_each_sample_begins_with_the_prefix_and_is_not_too_long(corpus, tokenizer) -> None:
    samples = pack(corpus, tokenizer, samples=50, ru=1)
    assert samples.ids.shape == (50, BLOCK) and len(samples) == 50
    assert (samples.ids[:, 0] == PREFIX).all()
    assert (samples.lengths > 1).all() and (samples.lengths <= BLOCK).all()
    assert samples.tokens == int(samples.lengths.sum())


@pytest.mark.parametrize("language", ["ru", "en"])
def test_no_document_is_lost_and_none_is_made_up(corpus, tokenizer, language) -> None:
    expected = parts(corpus, tokenizer, language)
    samples = pack(corpus, tokenizer, samples=400, **{language: 1})
    found = Counter(part for sample in unpacked(samples) for part in sample)
    assert found.keys() == expected.keys()
    # what is in the open blocks at the end has been read, but is not in a sample yet
    passes = max(found.values())
    assert passes > 3
    assert sum(passes - count for count in found.values()) <= len(expected) + OPEN_BLOCKS * BLOCK / 4


def test_samples_are_dense(corpus, tokenizer) -> None:
    samples = pack(corpus, tokenizer, samples=300, ru=1)
    assert samples.tokens / samples.ids.numel() > 0.9


def test_padding_carries_no_loss_and_no_attention(corpus, tokenizer) -> None:
    samples = pack(corpus, tokenizer, samples=100, ru=1)
    assert (samples.lengths < BLOCK).any()
    for i in range(len(samples)):
        item, length = samples[i], int(samples.lengths[i])
        assert item["attention_mask"].sum() == length
        assert (item["labels"][length:] == IGNORED).all()
        assert torch.equal(item["labels"][:length], item["input_ids"][:length])
        assert item["input_ids"].dtype == item["labels"].dtype == torch.int64


def test_one_seed_is_one_order(corpus, tokenizer) -> None:
    first, again, other = (pack(corpus, tokenizer, samples=60, ru=1, en=1, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first.ids, again.ids) and torch.equal(first.lengths, again.lengths)
    assert not torch.equal(first.ids, other.ids)


def test_a_longer_run_begins_as_a_shorter_one(corpus, tokenizer) -> None:
    short, long = (pack(corpus, tokenizer, samples=count, ru=2, en=1) for count in (30, 60))
    assert torch.equal(long.ids[:30], short.ids)


@pytest.mark.parametrize("unit", [1, 10, 0.1])
def test_languages_have_the_shares_asked_for(corpus, tokenizer, unit) -> None:
    samples = pack(corpus, tokenizer, samples=80, ru=3 * unit, en=unit)
    ru = parts(corpus, tokenizer, "ru").keys()
    tokens = Counter()
    for sample, length in zip(unpacked(samples), samples.lengths.tolist(), strict=True):
        assert len({part in ru for part in sample}) == 1
        tokens["ru" if sample[0] in ru else "en"] += length
    assert tokens["ru"] / tokens.total() == pytest.approx(0.75, abs=0.03)


def test_a_corpus_without_the_language_or_without_text_is_refused(corpus, tokenizer) -> None:
    with pytest.raises(DataError, match="no text of language 'de'; it has: en, none, ru"):
        pack(corpus, tokenizer, samples=4, de=1)
    with pytest.raises(DataError, match="holds no documents to train on"):
        pack(corpus, tokenizer, samples=4, none=1)
