"""Documents → training samples: blocks of tokens that begin at a document or a paragraph, on disk.

A document is `prefix ids… end`. It is kept whole while a block has room for it; a longer one is cut after a line.
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

from lep.data.corpus import corpus_file
from lep.data.document_tokens import document_end, document_prefix
from lep.data.packed_dataset import IGNORED as IGNORED
from lep.data.packed_dataset import Block, Layout, Samples, finish_samples, open_samples, write_blocks
from lep.errors import DataError, TokenizerError, UsageError
from lep.progress import note, progress

OPEN_BLOCKS = 32
"""Blocks that are filled at the same time: the more, the less padding."""

BATCH_BYTES = 1 << 16
"""Text that is encoded at a time, or one longer document."""

_CORES = os.cpu_count() or 1

_READ_BYTES = 1 << 24
_length = attrgetter("length")


@dataclass(frozen=True)
class Cutter:
    """How documents become parts that fit into a block.

    Attributes:
        block: the most ids in a part.
        prefix: stands before every part.
        end: stands after a document's last part; none where the tokenizer has none.
        ends_line: of each id, whether a line ends in it.
    """

    block: int
    prefix: int
    end: int | None
    ends_line: NDArray[np.bool_]

    def parts(self, ids: NDArray[np.int32]) -> Iterator[tuple[NDArray[np.int32], bool]]:
        """The parts of a document, and whether each is the last.

        Cut after the last line that fits, unless less than half a block were filled: then where the block is full.
        A document without ids has no parts.
        """
        if not len(ids):
            return
        prefix = np.array([self.prefix], dtype=np.int32)
        end = np.array([] if self.end is None else [self.end], dtype=np.int32)
        at = 0
        while len(ids) - at > self.block - 1 - len(end):
            cut = at + min(self.block - 1, len(ids) - at - 1)  # one token is left for the last part
            lines = np.flatnonzero(self.ends_line[ids[at:cut]])
            if len(lines) and 2 * (lines[-1] + 2) >= self.block:
                cut = at + int(lines[-1]) + 1
            yield np.concatenate([prefix, ids[at:cut]]), False
            at = cut
        yield np.concatenate([prefix, ids[at:], end]), True


@dataclass(frozen=True)
class Lines:
    """A .jsonl file and where its lines begin: 8 bytes a line are all that is held of it."""

    file: Path
    offsets: NDArray[np.int64]

    def batches(self, *, seed: int) -> Iterator[list[str]]:
        """The documents, endlessly, each pass in another order; no batch goes beyond a pass."""
        generator, order = np.random.default_rng(seed), self.offsets.copy()
        with self.file.open("rb") as stream:
            while True:
                generator.shuffle(order)
                batch: list[str] = []
                size = 0
                for offset in order:
                    stream.seek(int(offset))
                    line = stream.readline()
                    batch.append(self._text(line, offset=int(offset)))
                    size += len(line)
                    if size >= BATCH_BYTES:
                        yield batch
                        batch, size = [], 0
                if batch:
                    yield batch

    def _text(self, line: bytes, *, offset: int) -> str:
        try:
            text = json.loads(line.decode())["text"]
            text.encode()  # refuses half a character, which JSON can escape
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DataError(
                f"{self.file}: what begins at byte {offset} is no object with a text; make the corpus again"
            ) from None
        return text


@dataclass(frozen=True)
class Stream:
    """The blocks of one language, endlessly."""

    lines: Lines
    encoder: Tokenizer
    cutter: Cutter
    seed: int

    def blocks(self) -> Iterator[Block]:
        """Each document in the open block that it fills best. A pass over the documents ends with its blocks.

        So each pass holds every token once.
        """
        room, filling = self.cutter.block, list[Block]()  # the shortest first
        for ids, ends_pass in self._documents():
            for part, last in self.cutter.parts(ids):
                fitting = bisect_right(filling, room - len(part), key=_length)
                block = (filling.pop(fitting - 1) if fitting else Block()).with_part(part, last=last)
                if block.length == room:
                    yield block
                    continue
                if len(filling) == OPEN_BLOCKS:
                    yield filling.pop()
                insort(filling, block, key=_length)
            if ends_pass:
                yield from filling
                filling.clear()

    def _documents(self) -> Iterator[tuple[NDArray[np.int32], bool]]:
        """Ids of each document, and whether a pass ends; `DataError` when one has fewer tokens than a block."""
        tokens, count = 0, len(self.lines.offsets)
        for number, ids in enumerate(self._encoded(), start=1):
            tokens += len(ids)
            if number == count and tokens < self.cutter.block:
                raise DataError(
                    f"{self.lines.file}: all its documents have {tokens:,} tokens, and a block is larger: "
                    f"{self.cutter.block:,}; collect more text, or give a smaller block"
                )
            yield ids, number % count == 0

    def _encoded(self) -> Iterator[NDArray[np.int32]]:
        """Ids of each document; the next batches are encoded, one for each core, while this one is used."""
        with ThreadPoolExecutor(_CORES) as pool:
            coming: deque[Future[list[NDArray[np.int32]]]] = deque()
            for batch in self.lines.batches(seed=self.seed):
                coming.append(pool.submit(self._encode, batch))
                if len(coming) > _CORES:
                    yield from coming.popleft().result()

    def _encode(self, batch: list[str]) -> list[NDArray[np.int32]]:
        """Ids alone: what else `tokenizers` tells of a text takes many times its memory."""
        found = self.encoder.encode_batch_fast(batch, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in found]


def pack_corpus(
    corpus: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    mixture: Mapping[str, float],
    samples: int,
    block: int,
    seed: int,
    folder: Path,
    inside_documents: bool = True,
) -> Samples:
    """Fill `samples` blocks in `folder`, languages mixed by their shares of tokens, documents in an order by `seed`.

    A block takes documents of one language, whole while they fit, and is padded. When a language's documents are used
    up, its open blocks end, and they are read again in another order. More samples begin with the same ones. Finished
    samples that were made from the same are opened. Held in memory: a few blocks, and 8 bytes a document. One process
    at a time may pack into a folder.

    Raises:
        DataError: the corpus lacks a language of the mixture, has no documents of it or fewer tokens than a block, or
            the disk is full.
        UsageError: `block` has no room for a token between prefix and end.
        TokenizerError: a tokenizer in Python, or one without a token to begin documents with.
    """
    files = {language: corpus_file(corpus, language, "train") for language in mixture}
    encoder, cutter = _encoder(tokenizer), _cutter(tokenizer, block=block)
    layout = Layout(samples=samples, block=block, vocabulary=len(cutter.ends_line))
    made_from = _description(files, encoder, cutter=cutter, mixture=mixture, seed=seed)
    if found := open_samples(folder, made_from=made_from, layout=layout, inside_documents=inside_documents):
        return found
    streams = {language: Stream(find_lines(file), encoder, cutter, seed) for language, file in files.items()}
    ended: Counter[str] = Counter()
    tokens = write_blocks(folder, _mixed(streams, mixture, layout=layout, ended=ended), layout=layout)
    passes = {language: ended[language] / len(stream.lines.offsets) for language, stream in streams.items()}
    packed = Samples(folder, layout, inside_documents, tokens, passes)
    finish_samples(packed, made_from=made_from)
    return packed


def _description(
    files: Mapping[str, Path], encoder: Tokenizer, *, cutter: Cutter, mixture: Mapping[str, float], seed: int
) -> dict[str, Any]:
    """What decides over the samples, beside their layout."""
    return {
        "files": {name: [file.name, file.stat().st_size, file.stat().st_mtime_ns] for name, file in files.items()},
        "tokenizer": xxhash.xxh3_128_hexdigest(encoder.to_str().encode()),
        "around_documents": [cutter.prefix, cutter.end],
        "mixture": dict(mixture),
        "seed": seed,
    }


def find_lines(file: Path) -> Lines:
    """Where the lines of a file begin; `DataError` when it is empty."""
    found: list[NDArray[np.int64]] = []
    size = file.stat().st_size
    with file.open("rb") as stream, progress(f"finding the lines of {file.name}", total=size, unit="bytes") as advance:
        at = 0
        while chunk := stream.read(_READ_BYTES):
            found.append(np.flatnonzero(np.frombuffer(chunk, dtype=np.uint8) == ord("\n")) + at)
            at += len(chunk)
            advance(len(chunk))
    if not size:
        raise DataError(f"{file}: holds no documents to train on")
    offsets = np.concatenate([np.array([-1]), *found]) + 1
    return Lines(file, offsets[:-1] if offsets[-1] == size else offsets)


def _encoder(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """A tokenizer of its own that neither cuts nor pads."""
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TokenizerError("this tokenizer runs in Python alone; give the model folder a tokenizer.json")
    encoder = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    encoder.no_truncation()
    encoder.no_padding()
    return encoder


def _cutter(tokenizer: PreTrainedTokenizerBase, *, block: int) -> Cutter:
    prefix, end = document_prefix(tokenizer), document_end(tokenizer)
    if block < 3:
        raise UsageError(f"block={block}: a prefix, a token and an end need at least 3")
    ids = tokenizer.get_vocab()
    ends_line = np.zeros(1 + max(ids.values()), dtype=np.bool_)
    for token, id_ in ids.items():
        ends_line[id_] = "\n" in tokenizer.convert_tokens_to_string([token])
    return Cutter(block=block, prefix=prefix, end=end, ends_line=ends_line)


def _mixed(
    streams: Mapping[str, Stream], mixture: Mapping[str, float], *, layout: Layout, ended: Counter[str]
) -> Iterator[Block]:
    """Each block from the language that lacks most tokens; `ended` counts the documents that end in them."""
    weight, total = sum(mixture.values()), 0
    taken = dict.fromkeys(mixture, 0)
    blocks = {language: stream.blocks() for language, stream in streams.items()}
    for _ in range(layout.samples):
        reached = total + layout.block
        language = max(mixture, key=lambda name: mixture[name] / weight * reached - taken[name])
        block = next(blocks[language])
        taken[language] += block.length
        total += block.length
        ended[language] += block.ends
        yield block
    for language in (name for name, tokens in taken.items() if not tokens):
        note(f"{language}: no sample is of this language; its share of {layout.samples:,} is less than one")
