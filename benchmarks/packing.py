"""Packing a corpus: ours beside one document at a time, in Python lists.

    python benchmarks/packing.py [FILE.jsonl [TOKENIZER_FOLDER]]        (default: the demo's Russian text and model)

Two corpora are made of the file: its documents, and books of a million bytes joined from them. Every side is a process
of its own, with all cores; they take turns. Columns: tokens of text a second, from the file to the last sample, and a
second of one processor, both in the best turn; the most memory that the process ever held, libraries included; share of
the samples that is text.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from lep.data.document_tokens import document_prefix
from lep.data.packing import OPEN_BLOCKS, pack_corpus
from lep.modeling.loading import load_tokenizer

BLOCK, SAMPLES, BOOK, TURNS = 1024, 6000, 1_000_000, 3
Queue = multiprocessing.Queue
"""Takes a side's tokens, seconds, processor seconds and memory in bytes."""


def ours(corpus: Path, tokenizer: Path) -> int:
    """Tokens of text in samples on disk."""
    samples = pack_corpus(
        corpus,
        load_tokenizer(tokenizer),
        mixture={"text": 1.0},
        samples=SAMPLES,
        block=BLOCK,
        seed=0,
        folder=corpus / "samples",
    )
    return samples.tokens


def plain(corpus: Path, tokenizer_folder: Path) -> int:
    """Tokens of text in samples in memory; documents are cut where a block is full."""
    tokenizer = load_tokenizer(tokenizer_folder)
    prefix = document_prefix(tokenizer)
    ids = torch.zeros(SAMPLES, BLOCK, dtype=torch.int32)
    done = tokens = 0
    filling: list[list[int]] = []
    for text in shuffled(corpus / "text.train.jsonl"):
        found = tokenizer(text, add_special_tokens=False)["input_ids"]
        for at in range(0, len(found), BLOCK - 1):
            part = [prefix, *found[at : at + BLOCK - 1]]
            fitting = [block for block in filling if len(block) + len(part) <= BLOCK]
            if fitting:
                max(fitting, key=len).extend(part)
                continue
            if len(filling) == OPEN_BLOCKS:
                block = filling.pop(max(range(OPEN_BLOCKS), key=lambda i: len(filling[i])))
                ids[done, : len(block)] = torch.tensor(block, dtype=torch.int32)
                done, tokens = done + 1, tokens + len(block)
                if done == SAMPLES:
                    return tokens
            filling.append(part)
    raise SystemExit(f"the text has fewer than {SAMPLES} × {BLOCK} tokens; give a larger file")


def shuffled(file: Path) -> Iterator[str]:
    """The documents in an order of their own; only where they begin is held."""
    with file.open("rb") as stream:
        offsets = np.cumsum([0, *map(len, stream)])[:-1]
        for offset in np.random.default_rng(0).permutation(offsets):
            stream.seek(int(offset))
            yield json.loads(stream.readline())["text"]


def measure(side: Callable[[Path, Path], int], corpus: Path, tokenizer: Path, queue: Queue) -> None:
    """Run one side in this process."""
    load_tokenizer(tokenizer)  # imports what both need
    started, processor = time.monotonic(), time.process_time()
    tokens = side(corpus, tokenizer)
    seconds, processor = time.monotonic() - started, time.process_time() - processor
    queue.put((tokens, seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def turn(side: Callable[[Path, Path], int], corpus: Path, tokenizer: Path) -> tuple[int, float, float, int]:
    """What `measure` finds in a process of its own."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(side, corpus, tokenizer, queue))
    process.start()
    found = queue.get()
    process.join()
    shutil.rmtree(corpus / "samples", ignore_errors=True)
    return found


def books(texts: list[str]) -> list[str]:
    """The same text in documents of `BOOK` bytes or a little more."""
    found, book, size = [], [], 0
    for text in texts:
        book.append(text)
        size += len(text.encode())
        if size >= BOOK:
            found.append("\n\n".join(book))
            book, size = [], 0
    return found


def main(file: Path, tokenizer: Path) -> None:
    """Print one line for each corpus and side."""
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    print(f"{'':24}{'tokens/s':>12}{'a processor':>12}{'GiB':>7}{'text':>8}")
    for kind, documents in {"documents": texts, "books": books(texts)}.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder)
            lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
            (corpus / "text.train.jsonl").write_text("".join(lines))
            turns = [(turn(plain, corpus, tokenizer), turn(ours, corpus, tokenizer)) for _ in range(TURNS)]
        for name, found in zip(("plain", "ours"), zip(*turns, strict=True), strict=True):
            tokens, seconds, processor, memory = (list(column) for column in zip(*found, strict=True))
            rates = "".join(f"{tokens[0] / min(times):12,.0f}" for times in (seconds, processor))
            share = tokens[0] / (SAMPLES * BLOCK)
            print(f"{f'{kind}, {name}':24}{rates}{max(memory) / 2**30:7.2f}{share:8.1%}")


if __name__ == "__main__":
    inputs = Path("build/demo/inputs")
    given = [Path(argument) for argument in sys.argv[1:]]
    main(*given, *(inputs / "ru.jsonl", inputs / "published")[len(given) :])
