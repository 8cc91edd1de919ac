"""Vocabularies of every kind: training time, memory and compression; and ways to extend one, at the same size.

    python benchmarks/vocabularies.py BASE TEXT [--size 32000] [--new 8000] [--bytes N]

BASE is a tokenizer folder, TEXT a file of documents (.jsonl). The first table trains vocabularies of `--size` tokens,
those of lep next to plain `tokenizers` and SentencePiece on the same text. The second adds `--new` tokens to BASE in
four ways. Each row runs in a separate process, so that its peak memory is measured separately.

With `--bytes` the text is first enlarged to this size, and only the vocabularies of lep are measured: copies of TEXT in
which one word in thirty gets the ending of another, so that new words keep occurring as they do in a larger corpus.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from lep.core.vocabulary import TokenKind
from lep.data.corpus import list_corpus_languages, read_corpus_documents, read_heldout_excerpt
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.builders import (
    BuiltVocabulary,
    build_bpe_candidate,
    build_extended_candidate,
    build_optimized_candidate,
    build_unigram_candidate,
)
from lep.tokenization.merge_continuation import append_tokens, continue_merges
from lep.tokenization.token_import import import_tokens
from lep.tokenization.word_counts import WeightedWordCounts, count_words

HELDOUT = 500_000


@dataclass(frozen=True)
class Task:
    """Base tokenizer, text and sizes of every row."""

    base: Path
    text: Path
    size: int
    new: int

    @property
    def language(self) -> str:
        return list_corpus_languages(self.text)[0]

    def documents(self) -> Iterator[str]:
        return read_corpus_documents(self.text, self.language, "train")

    def heldout(self) -> list[str]:
        return read_heldout_excerpt(self.text, self.language, max_characters=HELDOUT)

    def read(self) -> tuple[TokenizerFile, WeightedWordCounts]:
        base = read_tokenizer(self.base)
        return base, count_words(base, self.text, mixture=None)


def ours_extended(task: Task) -> Tokenizer:
    base, words = task.read()
    return _tokenizer(build_extended_candidate(base, words, lambda _: task.new).build(task.new))


def ours_optimized(task: Task) -> Tokenizer:
    base, words = task.read()
    keep = len(base.vocabulary) // 2
    return _tokenizer(build_optimized_candidate(base, words, lambda _: task.new, kept_tokens=keep).build(task.new))


def ours_bpe(task: Task) -> Tokenizer:
    candidate = build_bpe_candidate(*task.read(), lambda fixed: task.size - fixed)
    return _tokenizer(candidate.build(candidate.num_available))


def ours_unigram(task: Task) -> Tokenizer:
    candidate = build_unigram_candidate(*task.read(), lambda fixed: task.size - fixed)
    return _tokenizer(candidate.build(candidate.num_available))


def plain_bpe(task: Task) -> Tokenizer:
    """Train with tokenizers and the base's pre-tokenizer, or Metaspace where it has none."""
    base = read_tokenizer(task.base).tokenizer
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = base.pre_tokenizer or pre_tokenizers.Metaspace()
    alphabet = pre_tokenizers.ByteLevel.alphabet() if base.pre_tokenizer else []
    trainer = trainers.BpeTrainer(vocab_size=task.size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(task.documents(), trainer)
    return tokenizer


def plain_unigram(task: Task) -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=task.size, unk_token="<unk>", special_tokens=["<unk>"])
    trainer.show_progress = False
    tokenizer.train_from_iterator(task.documents(), trainer)
    return tokenizer


def sentencepiece_bpe(task: Task) -> Tokenizer:
    return _sentencepiece(task, "bpe")


def sentencepiece_unigram(task: Task) -> Tokenizer:
    return _sentencepiece(task, "unigram")


def continued(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    base, words = task.read()
    extended = append_tokens(base, continue_merges(base, words, max_tokens=task.new).tokens)
    return extended.tokenizer, extended, task.new


def imported(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    base = read_tokenizer(task.base)
    tokens = import_tokens(base, _train_source(task)).tokens[: task.new]
    extended = append_tokens(base, tokens)
    return extended.tokenizer, extended, len(tokens)


def added_tokens(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    base = read_tokenizer(task.base)
    texts = [token.decode() for token in _list_missing_tokens(base, _train_source(task), task.new)]
    tokenizer = Tokenizer.from_str(json.dumps(base.tokenizer_json))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    return tokenizer, base, len(texts)


def union(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    """Append the tokens of the source to the base's tokens, and their merges to the base's merges."""
    base, source = read_tokenizer(task.base), _train_source(task)
    model = dict(base.tokenizer_json["model"])
    texts = [base.to_stored_token(token) for token in _list_missing_tokens(base, source, task.new)]
    model["vocab"] = model["vocab"] | {text: len(base.vocabulary) + i for i, text in enumerate(texts)}
    missing = set(texts)
    merges = [m for m in source.merges if "".join(m) in missing and m[0] in model["vocab"] and m[1] in model["vocab"]]
    strings = isinstance(model["merges"][0], str)
    model["merges"] = [*model["merges"], *(" ".join(m) if strings else list(m) for m in merges)]
    extended = TokenizerFile(base.path, base.tokenizer_json | {"model": model}, base.scheme)
    return extended.tokenizer, extended, len(texts)


KINDS: dict[str, Callable[[Task], Tokenizer]] = {
    "extended": ours_extended,
    "optimized": ours_optimized,
    "bpe": ours_bpe,
    "unigram": ours_unigram,
}
PEERS: dict[str, Callable[[Task], Tokenizer]] = {
    "tokenizers BPE": plain_bpe,
    "tokenizers Unigram": plain_unigram,
    "SentencePiece BPE": sentencepiece_bpe,
    "SentencePiece Unigram": sentencepiece_unigram,
}
METHODS = {
    "continued merges (extended)": continued,
    "imported (import_tokens_from=)": imported,
    "union of vocabularies": union,
    "imported as added tokens": added_tokens,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--size", type=int, default=32_000)
    parser.add_argument("--new", type=int, default=8_000)
    parser.add_argument("--bytes", type=float, default=0)
    options = parser.parse_args()
    task = Task(options.base, options.text, options.size, options.new)
    if not options.bytes:
        _print_kinds(task, KINDS | PEERS)
        _print_methods(task)
        return
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / options.text.name
        _enlarge(options.text, large, size=int(options.bytes))
        _print_kinds(Task(options.base, large, options.size, options.new), KINDS)


def _print_kinds(task: Task, rows: dict[str, Callable[[Task], Tokenizer]]) -> None:
    megabytes = task.text.stat().st_size / 1e6
    print(f"{task.base.name}, {task.text.name}: {megabytes:,.0f} MB; {task.size:,} tokens, {task.new:,} new")
    print(f"{'':<24}{'seconds':>9}{'CPU s':>9}{'peak GiB':>10}{'tokens':>9}{'bytes/token':>13}")
    for name, make in rows.items():
        seconds, cpu, peak, tokens, density = _run_in_process(_measure, make, task)
        print(f"{name:<24}{seconds:>9.1f}{cpu:>9.1f}{peak:>10.2f}{tokens:>9,}{density:>13.3f}", flush=True)


def _print_methods(task: Task) -> None:
    print(f"\n{task.base.name} and {task.new:,} added tokens")
    print(f"{'':<30}{'added':>7}{'unreachable':>13}{'bytes/token':>13}{'tokens':>9}")
    first = 0.0
    for name, make in METHODS.items():
        added, unreachable, density = _run_in_process(_measure_extension, make, task)
        first = first or density
        print(f"{name:<30}{added:>7,}{unreachable:>13,}{density:>13.3f}{first / density:>8.2f}×", flush=True)


def _run_in_process(function: Callable, *arguments: object):  # noqa: ANN202
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _measure(make: Callable[[Task], Tokenizer], task: Task) -> tuple[float, float, float, int, float]:
    before, cpu = time.perf_counter(), time.process_time()
    tokenizer = make(task)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds, cpu, peak, tokenizer.get_vocab_size(), _compute_bytes_per_token(tokenizer, task.heldout())


def _measure_extension(make: Callable, task: Task) -> tuple[int, int, float]:
    tokenizer, file, added = make(task)
    first = len(read_tokenizer(task.base).vocabulary)
    new_ids = range(first, len(file.vocabulary))
    unreachable = sum(list(file.segment(file.vocabulary.tokens[id_])) != [id_] for id_ in new_ids)
    return added, unreachable, _compute_bytes_per_token(tokenizer, task.heldout())


def _compute_bytes_per_token(tokenizer: Tokenizer, texts: list[str]) -> float:
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))
    return sum(len(text.encode()) for text in texts) / tokens


def _tokenizer(built: BuiltVocabulary) -> Tokenizer:
    return built.tokenizer.tokenizer


def _train_source(task: Task) -> TokenizerFile:
    """Train a BPE on the text, in the base's scheme: the tokens to add."""
    candidate = build_bpe_candidate(*task.read(), lambda _: 2 * task.new)
    return candidate.build(candidate.num_available).tokenizer


def _list_missing_tokens(base: TokenizerFile, source: TokenizerFile, count: int) -> list[bytes]:
    """Return the first tokens of the source that the base lacks and that are valid UTF-8."""
    base_tokens, missing = set(base.vocabulary.tokens), []
    for token, kind in zip(source.vocabulary.tokens, source.vocabulary.kinds, strict=True):
        if kind is TokenKind.NORMAL and token not in base_tokens and token.decode(errors="replace").encode() == token:
            missing.append(token)
    return missing[:count]


def _sentencepiece(task: Task, kind: str) -> Tokenizer:
    import sentencepiece

    with tempfile.TemporaryDirectory() as folder:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=(line for text in task.documents() for line in text.split("\n") if line),
            model_prefix=f"{folder}/tokenizer",
            model_type=kind,
            vocab_size=task.size,
            byte_fallback=True,
            split_digits=True,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            max_sentence_length=1 << 16,
            minloglevel=2,
        )
        return read_tokenizer(Path(folder)).tokenizer


def _enlarge(source: Path, target: Path, *, size: int) -> None:
    rng, language = random.Random(0), list_corpus_languages(source)[0]
    documents = [*read_corpus_documents(source, language, "train"), *read_corpus_documents(source, language, "heldout")]
    with target.open("wb") as file:
        for document in cycle(documents):
            words = document.split(" ")
            for at in range(rng.randrange(30), len(words), 30):
                donor = words[rng.randrange(len(words))]
                words[at] = words[at][: 1 + len(words[at]) // 2] + donor[len(donor) // 2 :]
            file.write(json.dumps({"text": " ".join(words)}, ensure_ascii=False).encode() + b"\n")
            if file.tell() >= size:
                return


if __name__ == "__main__":
    main()
