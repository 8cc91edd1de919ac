"""Occurrences of tokens are those that the tokenizer itself finds in the training half of a text."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer

from lep.data.corpus import HELDOUT_SHARE, document_digest, is_heldout
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization import token_counts as frequencies
from lep.tokenization.token_counts import token_frequencies

END = "<|endoftext|>"
CUTTING = {"truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}}
PADDING = {"padding": {"strategy": "BatchLongest", "direction": "Right", "pad_id": 0, "pad_type_id": 0}}
PADDING["padding"] |= {"pad_to_multiple_of": None, "pad_token": END}


@pytest.fixture
def corpus(texts, tmp_path) -> Path:
    """As `collect` leaves one, with a special token and an empty line in the text."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    halves = {"ru.train": [*texts["ru"][:300], END, "\n"], "en.train": texts["en"][:200], "ru.heldout": ["heldout"] * 9}
    for name, documents in halves.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in documents))
    return folder


def counted(tokenizer: TokenizerFile, documents: list[str]) -> torch.Tensor:
    found, own = Counter(), Tokenizer.from_file(str(tokenizer.path))
    for text in documents:
        found.update(own.encode(text, add_special_tokens=False).ids)
    return torch.tensor([float(found[id_]) for id_ in range(own.get_vocab_size())], dtype=torch.float64)


@pytest.mark.parametrize("batch", [1, 7, 1000])
@pytest.mark.parametrize("family", ["byte_level", "metaspace"])
def test_all_languages_of_the_training_half_count(tokenizers, texts, corpus, monkeypatch, family, batch) -> None:
    monkeypatch.setattr(frequencies, "_BATCH", batch)
    tokenizer = read_tokenizer(tokenizers[family])
    found = token_frequencies(corpus, tokenizer)
    assert found.dtype == torch.float64 and found.sum() > 5000
    assert torch.equal(found, counted(tokenizer, [*texts["ru"][:300], END, "\n", *texts["en"][:200]]))


def test_a_plain_file_is_a_corpus_too(tokenizers, texts, tmp_path) -> None:
    file = tmp_path / "ru.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts["ru"]))
    tokenizer = read_tokenizer(tokenizers["byte_level"])
    train = [text for text in texts["ru"] if not is_heldout(document_digest(text), share=HELDOUT_SHARE)]
    assert 900 < len(train) < 1000
    assert torch.equal(token_frequencies(file, tokenizer), counted(tokenizer, train))


def test_a_special_token_counts_where_it_stands_and_nowhere_else(tokenizers, corpus) -> None:
    assert token_frequencies(corpus, read_tokenizer(tokenizers["byte_level"]))[0] == 1


@pytest.mark.parametrize("part", [CUTTING, PADDING], ids=lambda part: next(iter(part)))
def test_nothing_is_cut_or_padded(tokenizers, corpus, part) -> None:
    tokenizer = read_tokenizer(tokenizers["byte_level"])
    cutting = replace(tokenizer, state=tokenizer.state | part)
    assert torch.equal(token_frequencies(corpus, cutting), token_frequencies(corpus, tokenizer))
