"""Pack documents into training samples of equal length, on disk, by best fit.

A document is `prefix ids… end`. It stays in one sample if it fits into one; a longer one is split after a line. Each
chunk begins with the prefix.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right, insort
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lep.data.corpus import find_corpus_file
from lep.data.document_tokens import get_document_end_id, get_document_prefix_id
from lep.data.packed_dataset import IGNORE_INDEX as IGNORE_INDEX
from lep.data.packed_dataset import (
    PackedDataset,
    PackedLayout,
    PackedSample,
    open_packed_dataset,
    write_metadata,
    write_packed_samples,
)
from lep.errors import DataError, TokenizerError, UsageError
from lep.progress import log_message, track_progress

MAX_OPEN_SAMPLES = 32
"""Samples that are filled at the same time: the more, the less padding."""

BATCH_BYTES = 1 << 16
"""Text tokenized at once; a longer document is a batch of its own."""

_CPU_COUNT = os.cpu_count() or 1

_READ_CHUNK_BYTES = 1 << 24
_get_length = attrgetter("length")


@dataclass(frozen=True)
class DocumentSplitter:
    """Splits documents into chunks that fit into a sample."""

    sequence_length: int
    """Maximum ids of a chunk."""
    prefix_id: int
    """First id of every chunk."""
    end_id: int | None
    """Last id of a document's last chunk; None: the tokenizer has no such token."""
    contains_newline: NDArray[np.bool_]
    """Whether the text of each id contains a line break."""

    def split(self, ids: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int32], bool]]:
        """Split a document after the last line that fits, or after the last id if that would fill less than half.

        Args:
            ids: Of the document, without prefix and end.

        Yields:
            A chunk, and whether it is the last one. A document without ids has no chunks.
        """
        if not len(ids):
            return
        prefix = np.array([self.prefix_id], dtype=np.int32)
        end = np.array([] if self.end_id is None else [self.end_id], dtype=np.int32)
        start = 0
        while len(ids) - start > self.sequence_length - 1 - len(end):
            stop = start + min(self.sequence_length - 1, len(ids) - start - 1)  # leave one id for the last chunk
            newlines = np.flatnonzero(self.contains_newline[ids[start:stop]])
            if len(newlines) and 2 * (newlines[-1] + 2) >= self.sequence_length:
                stop = start + int(newlines[-1]) + 1
            yield np.concatenate([prefix, ids[start:stop]]), False
            start = stop
        yield np.concatenate([prefix, ids[start:], end]), True


@dataclass(frozen=True)
class JsonlIndex:
    """A .jsonl file and the byte offsets of its lines, all that is held in memory of it."""

    file: Path
    offsets: NDArray[np.int64]

    def iterate_batches(self, *, seed: int) -> Iterator[list[str]]:
        """Yield batches of documents endlessly, in another order in each pass; no batch crosses the end of a pass.

        Args:
            seed: Of the orders.

        Yields:
            About `BATCH_BYTES` of documents.

        Raises:
            DataError: A line is not an object with a text; its byte offset is named.
        """
        generator, order = np.random.default_rng(seed), self.offsets.copy()
        with self.file.open("rb") as stream:
            while True:
                generator.shuffle(order)
                batch: list[str] = []
                size = 0
                for offset in order:
                    stream.seek(int(offset))
                    line = stream.readline()
                    batch.append(self._parse_text(line, offset=int(offset)))
                    size += len(line)
                    if size >= BATCH_BYTES:
                        yield batch
                        batch, size = [], 0
                if batch:
                    yield batch

    def _parse_text(self, line: bytes, *, offset: int) -> str:
        try:
            text = json.loads(line.decode())["text"]
            text.encode()  # fails on a lone surrogate, which JSON can escape
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{self.file}: the line at byte {offset} is not an object with a text; collect the corpus again"
            ) from None
        return text


@dataclass(frozen=True)
class LanguageStream:
    """The samples of one language, endlessly."""

    index: JsonlIndex
    tokenizer: Tokenizer
    splitter: DocumentSplitter
    seed: int

    def iterate_samples(self) -> Iterator[PackedSample]:
        """Yield samples, adding each chunk to the open sample that it fills best.

        A pass over the documents closes all open samples, so that each pass has every token once.
        """
        max_length, open_samples = self.splitter.sequence_length, list[PackedSample]()  # the shortest first
        for ids, ends_pass in self._iterate_documents():
            for chunk, is_last in self.splitter.split(ids):
                num_fitting = bisect_right(open_samples, max_length - len(chunk), key=_get_length)
                best = open_samples.pop(num_fitting - 1) if num_fitting else PackedSample()
                sample = best.with_chunk(chunk, completes_document=is_last)
                if sample.length == max_length:
                    yield sample
                    continue
                if len(open_samples) == MAX_OPEN_SAMPLES:
                    yield open_samples.pop()
                insort(open_samples, sample, key=_get_length)
            if ends_pass:
                yield from open_samples
                open_samples.clear()

    def _iterate_documents(self) -> Iterator[tuple[NDArray[np.int32], bool]]:
        """Yield the ids of each document, and whether it ends a pass."""
        tokens, count = 0, len(self.index.offsets)
        for number, ids in enumerate(self._encode_documents(), start=1):
            tokens += len(ids)
            if number == count and tokens < self.splitter.sequence_length:
                raise DataError(
                    f"{self.index.file}: all its documents have {tokens:,} tokens, fewer than one sample of "
                    f"{self.splitter.sequence_length:,}; collect more text, or lower sequence_length"
                )
            yield ids, number % count == 0

    def _encode_documents(self) -> Iterator[NDArray[np.int32]]:
        """Yield the ids of each document, while the next batches are tokenized, one on each core."""
        with ThreadPoolExecutor(_CPU_COUNT) as pool:
            futures: deque[Future[list[NDArray[np.int32]]]] = deque()
            for batch in self.index.iterate_batches(seed=self.seed):
                futures.append(pool.submit(self._encode_batch, batch))
                if len(futures) > _CPU_COUNT:
                    yield from futures.popleft().result()

    def _encode_batch(self, batch: list[str]) -> list[NDArray[np.int32]]:
        """Keep only the ids: an encoding of `tokenizers` takes many times the memory of its text."""
        encodings = self.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]


def pack_corpus(
    corpus: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mixture: Mapping[str, float],
    num_samples: int,
    sequence_length: int,
    seed: int,
    folder: Path,
    document_masking: bool = True,
) -> PackedDataset:
    """Pack the training text of a corpus into a folder, or open samples there that were packed from the same.

    A sample has documents of one language and is padded. When the documents of a language are used up, they are read
    again in another order. A larger number of samples begins with the same ones. In memory are a few samples, and 8
    bytes for each document. Only one process at a time may pack into a folder.

    Args:
        corpus: A corpus of `collect`.
        tokenizer: A fast tokenizer.
        mixture: Share of each language in the tokens, in any unit.
        num_samples: Number of samples.
        sequence_length: Ids of a sample.
        seed: Of the order of documents.
        folder: For the samples; other samples in it are replaced.
        document_masking: Keep attention inside documents.

    Returns:
        The samples.

    Raises:
        DataError: The corpus lacks a language of the mixture, has no documents of it or fewer tokens than a sample, or
            the disk is full.
        UsageError: `sequence_length` is below 3, a prefix, a token and an end.
        TokenizerError: The tokenizer is not a fast one, or has no token to begin documents with.
    """
    files = {language: find_corpus_file(corpus, language, "train") for language in mixture}
    encoder, splitter = _copy_backend_tokenizer(tokenizer), _build_splitter(tokenizer, sequence_length=sequence_length)
    layout = PackedLayout(
        num_samples=num_samples, sequence_length=sequence_length, vocab_size=len(splitter.contains_newline)
    )
    cache_key = _build_cache_key(files, encoder, splitter=splitter, mixture=mixture, seed=seed)
    finished = open_packed_dataset(folder, cache_key=cache_key, layout=layout, document_masking=document_masking)
    if finished:
        return finished
    streams = {language: LanguageStream(index_jsonl(file), encoder, splitter, seed) for language, file in files.items()}
    completed_documents: Counter[str] = Counter()

    def count_documents() -> Iterator[PackedSample]:
        for language, sample in _mix_languages(streams, mixture, layout=layout):
            completed_documents[language] += sample.completed_documents
            yield sample

    tokens = write_packed_samples(folder, count_documents(), layout=layout)
    epochs = {
        language: completed_documents[language] / len(stream.index.offsets) for language, stream in streams.items()
    }
    dataset = PackedDataset(folder, layout, document_masking, tokens, epochs)
    write_metadata(dataset, cache_key=cache_key)
    return dataset


def _build_cache_key(
    files: Mapping[str, Path],
    tokenizer: Tokenizer,
    *,
    splitter: DocumentSplitter,
    mixture: Mapping[str, float],
    seed: int,
) -> dict[str, Any]:
    """Return what determines the samples, besides their layout."""
    return {
        "files": {name: [file.name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in files.items()},
        "tokenizer": xxhash.xxh3_128_hexdigest(tokenizer.to_str().encode()),
        "document_tokens": [splitter.prefix_id, splitter.end_id],
        "mixture": dict(mixture),
        "seed": seed,
    }


def index_jsonl(file: Path) -> JsonlIndex:
    """Find the byte offsets of a file's lines.

    Args:
        file: A .jsonl file.

    Returns:
        The offsets.

    Raises:
        DataError: The file is empty.
    """
    newlines: list[NDArray[np.int64]] = []
    size = file.stat().st_size
    with (
        file.open("rb") as stream,
        track_progress(f"indexing {file.name}", total=size, unit="bytes") as advance,
    ):
        start = 0
        while chunk := stream.read(_READ_CHUNK_BYTES):
            newlines.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + start)
            start += len(chunk)
            advance(len(chunk))
    if not size:
        raise DataError(f"{file}: holds no documents to train on")
    offsets = np.concatenate([np.array([-1]), *newlines]) + 1
    return JsonlIndex(file, offsets[:-1] if offsets[-1] == size else offsets)


def _copy_backend_tokenizer(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """Return a copy that neither truncates nor pads."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TokenizerError("this tokenizer is not a fast one; give the model folder a tokenizer.json")
    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _build_splitter(tokenizer: PreTrainedTokenizerBase, *, sequence_length: int) -> DocumentSplitter:
    prefix_id, end_id = get_document_prefix_id(tokenizer), get_document_end_id(tokenizer)
    if sequence_length < 3:
        raise UsageError(f"sequence_length={sequence_length}: a prefix, a token and an end need at least 3")
    vocabulary = tokenizer.get_vocab()
    contains_newline = np.zeros(1 + max(vocabulary.values()), dtype=np.bool_)
    for token, id_ in vocabulary.items():
        contains_newline[id_] = "\n" in tokenizer.convert_tokens_to_string([token])
    return DocumentSplitter(sequence_length, prefix_id, end_id, contains_newline)


def _mix_languages(
    streams: Mapping[str, LanguageStream], mixture: Mapping[str, float], *, layout: PackedLayout
) -> Iterator[tuple[str, PackedSample]]:
    """Yield each sample, with its language, from the language that lacks most tokens."""
    weight, total = sum(mixture.values()), 0
    tokens = dict.fromkeys(mixture, 0)
    samples = {language: stream.iterate_samples() for language, stream in streams.items()}
    for _ in range(layout.num_samples):
        next_total = total + layout.sequence_length
        language = max(mixture, key=lambda name: mixture[name] / weight * next_total - tokens[name])
        sample = next(samples[language])
        tokens[language] += sample.length
        total += sample.length
        yield language, sample
    for language in (name for name, count in tokens.items() if not count):
        log_message(f"{language}: no sample is of this language; its share of {layout.num_samples:,} is less than one")
