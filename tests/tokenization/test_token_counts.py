"""Token counts are those of the tokenizer itself on the training split of a corpus."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from lep.data.corpus import HELDOUT_SHARE, hash_document, is_heldout
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization import token_counts
from lep.tokenization.token_counts import count_corpus_tokens

END = "<|endoftext|>"
TRUNCATION = {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}}
PADDING = {"padding": {"strategy": "BatchLongest", "direction": "Right", "pad_id": 0, "pad_type_id": 0}}
PADDING["padding"] |= {"pad_to_multiple_of": None, "pad_token": END}


@pytest.fixture
def corpus(texts, tmp_path) -> Path:
    """As `collect` leaves one, with a special token and an empty line in the text."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    splits = {"ru.train": [*texts["ru"][:300], END, "\n"], "en.train": texts["en"][:200], "ru.heldout": ["heldout"] * 9}
    for name, documents in splits.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return folder


def expected_counts(tokenizer: TokenizerFile, documents: list[str]) -> torch.Tensor:
    counts, reference = Counter(), Tokenizer.from_file(str(tokenizer.path))
    for text in documents:
        counts.update(reference.encode(text, add_special_tokens=False).ids)
    return torch.tensor([float(counts[id_]) for id_ in range(reference.get_vocab_size())], dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("family", ["byte_level", "metaspace"])
def test_all_languages_of_the_training_split_count(tokenizers, texts, corpus, monkeypatch, family, batch) -> None:
    monkeypatch.setattr(token_counts, "_BATCH_DOCUMENTS", batch)
    tokenizer = read_tokenizer(tokenizers[family])
    counts = count_corpus_tokens(corpus, tokenizer)
    assert counts.dtype == torch.float64 and counts.sum() > 5000
    assert torch.equal(counts, expected_counts(tokenizer, [*texts["ru"][:300], END, "\n", *texts["en"][:200]]))


def test_a_plain_file_is_a_corpus_too(tokenizers, texts, tmp_path) -> None:
    file = tmp_path / "ru.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts["ru"]))
    tokenizer = read_tokenizer(tokenizers["byte_level"])
    train = [text for text in texts["ru"] if not is_heldout(hash_document(text), share=HELDOUT_SHARE)]
    assert 900 < len(train) < 1000
    assert torch.equal(count_corpus_tokens(file, tokenizer), expected_counts(tokenizer, train))


def test_a_special_token_counts_only_where_it_occurs(tokenizers, corpus) -> None:
    assert count_corpus_tokens(corpus, read_tokenizer(tokenizers["byte_level"]))[0] == 1


@pytest.mark.parametrize("part", [TRUNCATION, PADDING], ids=lambda part: next(iter(part)))
def test_texts_are_neither_truncated_nor_padded(tokenizers, corpus, part) -> None:
    tokenizer = read_tokenizer(tokenizers["byte_level"])
    changed = replace(tokenizer, tokenizer_json=tokenizer.tokenizer_json | part)
    assert torch.equal(count_corpus_tokens(corpus, changed), count_corpus_tokens(corpus, tokenizer))
