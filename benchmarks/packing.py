"""Compare the packing of a corpus by lep and by a plain loop over documents with Python lists.

    python benchmarks/packing.py [FILE.jsonl [TOKENIZER_FOLDER]]        (default: the demo's Russian text and model)

Two corpora are made of the file: its documents, and books of a million bytes joined from them. Both sides run in turn,
in processes of their own with all cores. Columns: tokens of text per second, from the file to the last sample, and per
second of processor time, both of the best turn; the peak memory of the process, libraries included; the fraction of the
samples that is text.
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

from lep.data.document_tokens import get_document_prefix_id
from lep.data.packing import MAX_OPEN_SAMPLES, pack_corpus
from lep.modeling.loading import load_tokenizer

SEQUENCE_LENGTH, NUM_SAMPLES, BOOK_BYTES, TURNS = 1024, 6000, 1_000_000, 3
Queue = multiprocessing.Queue
"""Gets the tokens, seconds, processor seconds and memory in bytes of a side."""


def pack_by_lep(corpus: Path, tokenizer: Path) -> int:
    """Pack samples on disk, and return their tokens of text."""
    samples = pack_corpus(
        corpus,
        load_tokenizer(tokenizer),
        mixture={"text": 1.0},
        num_samples=NUM_SAMPLES,
        sequence_length=SEQUENCE_LENGTH,
        seed=0,
        folder=corpus / "samples",
    )
    return samples.tokens


def pack_plainly(corpus: Path, tokenizer_folder: Path) -> int:
    """Pack samples in memory, with documents split where a sample is full, and return their tokens of text."""
    tokenizer = load_tokenizer(tokenizer_folder)
    prefix = get_document_prefix_id(tokenizer)
    ids = torch.zeros(NUM_SAMPLES, SEQUENCE_LENGTH, dtype=torch.int32)
    num_packed = tokens = 0
    open_samples: list[list[int]] = []
    for text in read_shuffled(corpus / "text.train.jsonl"):
        document = tokenizer(text, add_special_tokens=False)["input_ids"]
        for start in range(0, len(document), SEQUENCE_LENGTH - 1):
            chunk = [prefix, *document[start : start + SEQUENCE_LENGTH - 1]]
            fitting = [sample for sample in open_samples if len(sample) + len(chunk) <= SEQUENCE_LENGTH]
            if fitting:
                max(fitting, key=len).extend(chunk)
                continue
            if len(open_samples) == MAX_OPEN_SAMPLES:
                sample = open_samples.pop(max(range(MAX_OPEN_SAMPLES), key=lambda i: len(open_samples[i])))
                ids[num_packed, : len(sample)] = torch.tensor(sample, dtype=torch.int32)
                num_packed, tokens = num_packed + 1, tokens + len(sample)
                if num_packed == NUM_SAMPLES:
                    return tokens
            open_samples.append(chunk)
    raise SystemExit(f"the text has fewer than {NUM_SAMPLES} × {SEQUENCE_LENGTH} tokens; give a larger file")


def read_shuffled(file: Path) -> Iterator[str]:
    """Yield the documents in random order, with only their byte offsets in memory."""
    with file.open("rb") as stream:
        offsets = np.cumsum([0, *map(len, stream)])[:-1]
        for offset in np.random.default_rng(0).permutation(offsets):
            stream.seek(int(offset))
            yield json.loads(stream.readline())["text"]


def measure(side: Callable[[Path, Path], int], corpus: Path, tokenizer: Path, queue: Queue) -> None:
    """Run one side in this process."""
    load_tokenizer(tokenizer)  # imports the libraries of both sides
    started, processor = time.monotonic(), time.process_time()
    tokens = side(corpus, tokenizer)
    seconds, processor = time.monotonic() - started, time.process_time() - processor
    queue.put((tokens, seconds, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


def run_in_process(side: Callable[[Path, Path], int], corpus: Path, tokenizer: Path) -> tuple[int, float, float, int]:
    """Return what `measure` puts into its queue in a new process."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=measure, args=(side, corpus, tokenizer, queue))
    process.start()
    measurement = queue.get()
    process.join()
    shutil.rmtree(corpus / "samples", ignore_errors=True)
    return measurement


def join_books(texts: list[str]) -> list[str]:
    """Return the same text in documents of `BOOK_BYTES` or a little more."""
    books, book, size = [], [], 0
    for text in texts:
        book.append(text)
        size += len(text.encode())
        if size >= BOOK_BYTES:
            books.append("\n\n".join(book))
            book, size = [], 0
    return books


def main(file: Path, tokenizer: Path) -> None:
    """Print one line for each corpus and side."""
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
    print(f"{'':24}{'tokens/s':>12}{'tokens/cpu-s':>14}{'GiB':>7}{'text':>8}")
    for kind, documents in {"documents": texts, "books": join_books(texts)}.items():
        with tempfile.TemporaryDirectory() as folder:
            corpus = Path(folder)
            lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in documents]
            (corpus / "text.train.jsonl").write_text("".join(lines))
            sides = (pack_plainly, pack_by_lep)
            turns = [[run_in_process(side, corpus, tokenizer) for side in sides] for _ in range(TURNS)]
        for name, measurements in zip(("plain", "lep"), zip(*turns, strict=True), strict=True):
            tokens, seconds, processor, memory = (list(column) for column in zip(*measurements, strict=True))
            rates = f"{tokens[0] / min(seconds):12,.0f}{tokens[0] / min(processor):14,.0f}"
            share = tokens[0] / (NUM_SAMPLES * SEQUENCE_LENGTH)
            print(f"{f'{kind}, {name}':24}{rates}{max(memory) / 2**30:7.2f}{share:8.1%}")


if __name__ == "__main__":
    inputs = Path("build/demo/inputs")
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(*arguments, *(inputs / "ru.jsonl", inputs / "published")[len(arguments) :])
