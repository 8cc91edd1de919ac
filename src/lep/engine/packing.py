"""Documents → training samples: fixed-length blocks of tokens that begin at a document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from lep.errors import DataError
from lep.io.corpus import corpus_file

OPEN_BLOCKS = 32
"""Blocks that are filled at the same time: the more, the less padding."""

IGNORED = -100
"""Label of a position that carries no loss."""


@dataclass(frozen=True)
class Samples(Dataset[dict[str, Tensor]]):
    """Blocks of ids (`samples × block`) and how many of each are text, not padding."""

    ids: Tensor
    lengths: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        ids, present = self.ids[index].long(), torch.arange(self.ids.shape[1]) < self.lengths[index]
        return {"input_ids": ids, "attention_mask": present.long(), "labels": ids.masked_fill(~present, IGNORED)}

    @property
    def tokens(self) -> int:
        """Tokens of text in all samples."""
        return int(self.lengths.sum())


def pack_corpus(
    corpus: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mixture: Mapping[str, float],
    samples: int,
    block: int,
    prefix: int,
    seed: int,
) -> Samples:
    """Fill `samples` blocks from a corpus, languages mixed by weight, documents in an order given by `seed`.

    Every document follows `prefix`. A block takes whole documents while they fit and is padded; a document longer than
    a block is cut into parts. A language's documents are read again, in another order, when they are used up.

    Raises:
        DataError: the corpus lacks a language of the mixture, or has no documents of it.
    """
    total = sum(mixture.values())
    streams = {
        language: _blocks(corpus_file(corpus, language, "train"), tokenizer, block=block, prefix=prefix, seed=seed)
        for language in mixture
    }
    ids = torch.zeros(samples, block, dtype=torch.int32)
    lengths = torch.zeros(samples, dtype=torch.int32)
    taken = dict.fromkeys(mixture, 0)
    for i in range(samples):
        language = max(mixture, key=lambda name: mixture[name] / total * (i + 1) - taken[name])
        taken[language] += 1
        tokens = next(streams[language])
        ids[i, : len(tokens)] = torch.tensor(tokens, dtype=torch.int32)
        lengths[i] = len(tokens)
    return Samples(ids=ids, lengths=lengths)


def _blocks(
    file: Path, tokenizer: PreTrainedTokenizerBase, *, block: int, prefix: int, seed: int
) -> Iterator[list[int]]:
    """Blocks of whole documents, each document in the open block that it fills best."""
    open_blocks: list[list[int]] = []
    for part in _parts(file, tokenizer, block=block, prefix=prefix, seed=seed):
        fitting = [filled for filled in open_blocks if len(filled) + len(part) <= block]
        if fitting:
            max(fitting, key=len).extend(part)
            continue
        if len(open_blocks) == OPEN_BLOCKS:
            fullest = max(range(OPEN_BLOCKS), key=lambda i: len(open_blocks[i]))
            yield open_blocks.pop(fullest)
        open_blocks.append(part)


def _parts(
    file: Path, tokenizer: PreTrainedTokenizerBase, *, block: int, prefix: int, seed: int
) -> Iterator[list[int]]:
    """Documents as ids, each after `prefix`; one longer than a block in several parts."""
    for text in _shuffled(file, seed=seed):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(ids), block - 1):
            yield [prefix, *ids[at : at + block - 1]]


def _shuffled(file: Path, *, seed: int) -> Iterator[str]:
    """The documents of a .jsonl file, endlessly, each pass in another order; only line offsets are held."""
    with file.open("rb") as stream:
        offsets = np.cumsum([0, *(len(line) for line in stream)])[:-1]
        if not len(offsets):
            raise DataError(f"{file}: holds no documents to train on")
        generator = np.random.default_rng(seed)
        while True:
            for offset in generator.permutation(offsets):
                stream.seek(int(offset))
                yield json.loads(stream.readline())["text"]
