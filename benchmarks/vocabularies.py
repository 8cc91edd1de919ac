"""Vocabularies of every kind: how long, how much memory, how dense; and ways to extend one, at the same size.

    python benchmarks/vocabularies.py BASE TEXT [--size 32000] [--new 8000] [--bytes N]

BASE is a tokenizer folder, TEXT a file of documents (.jsonl). The first table trains vocabularies of `--size` tokens,
ours beside plain `tokenizers` and SentencePiece on the same text. The second adds `--new` tokens to BASE in four ways.
Each row runs in a process of its own, so that its peak memory is its own.

With `--bytes` the text is first blown up to so many bytes, and ours alone are measured: copies of TEXT in which one
word in thirty gets the end of another, so that new words keep coming as they do in a larger corpus.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from multiprocessing import get_context
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, trainers

from lep.core.vocabulary import Kind
from lep.data.corpus import corpus_documents, corpus_languages, heldout_excerpt
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.builders import Built, bpe_draft, extended_draft, optimized_draft, unigram_draft
from lep.tokenization.merge_continuation import continue_merges, extended
from lep.tokenization.token_import import continue_with_pieces
from lep.tokenization.word_counts import WordMix, count_words

HELDOUT = 500_000


@dataclass(frozen=True)
class Task:
    """What every row is made of."""

    base: Path
    text: Path
    size: int
    new: int

    @property
    def language(self) -> str:
        return corpus_languages(self.text)[0]

    def documents(self) -> Iterator[str]:
        return corpus_documents(self.text, self.language, "train")

    def heldout(self) -> list[str]:
        return heldout_excerpt(self.text, self.language, characters=HELDOUT)

    def read(self) -> tuple[TokenizerFile, WordMix]:
        base = read_tokenizer(self.base)
        return base, count_words(base, self.text, mixture=None, skipped=Counter())


def ours_extended(task: Task) -> Tokenizer:
    base, words = task.read()
    return _tokenizer(extended_draft(base, words, lambda _: task.new).build(task.new))


def ours_optimized(task: Task) -> Tokenizer:
    base, words = task.read()
    keep = len(base.vocabulary) // 2
    return _tokenizer(optimized_draft(base, words, lambda _: task.new, keep=keep).build(task.new))


def ours_bpe(task: Task) -> Tokenizer:
    draft = bpe_draft(*task.read(), lambda fixed: task.size - fixed)
    return _tokenizer(draft.build(draft.available))


def ours_unigram(task: Task) -> Tokenizer:
    draft = unigram_draft(*task.read(), lambda fixed: task.size - fixed)
    return _tokenizer(draft.build(draft.available))


def plain_bpe(task: Task) -> Tokenizer:
    """tokenizers, with the base's pre-tokenizer, or SentencePiece's in its stead."""
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
    found = extended(base, continue_merges(base, words, limit=task.new).tokens)
    return found.tokenizer, found, task.new


def pieces_by_merges(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    base = read_tokenizer(task.base)
    additions = continue_with_pieces(base, _foreign(task)).tokens[: task.new]
    found = extended(base, additions)
    return found.tokenizer, found, len(additions)


def added_tokens(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    base = read_tokenizer(task.base)
    texts = [token.decode() for token in _lacking(base, _foreign(task), task.new)]
    tokenizer = Tokenizer.from_str(json.dumps(base.state))
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    return tokenizer, base, len(texts)


def union(task: Task) -> tuple[Tokenizer, TokenizerFile, int]:
    """The foreign pieces behind the base's, and the foreign merges that make them behind the base's merges."""
    base, foreign = read_tokenizer(task.base), _foreign(task)
    model = dict(base.state["model"])
    texts = [base.stored(token) for token in _lacking(base, foreign, task.new)]
    model["vocab"] = model["vocab"] | {text: len(base.vocabulary) + i for i, text in enumerate(texts)}
    wanted = set(texts)
    merges = [m for m in foreign.merges if "".join(m) in wanted and m[0] in model["vocab"] and m[1] in model["vocab"]]
    strings = isinstance(model["merges"][0], str)
    model["merges"] = [*model["merges"], *(" ".join(m) if strings else list(m) for m in merges)]
    found = TokenizerFile(base.path, base.state | {"model": model}, base.scheme)
    return found.tokenizer, found, len(texts)


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
WAYS = {
    "continued merges (extended)": continued,
    "pieces, by merges (pieces=)": pieces_by_merges,
    "union of vocabularies": union,
    "pieces as added tokens": added_tokens,
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
        _kinds(task, KINDS | PEERS)
        _ways(task)
        return
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / options.text.name
        _blow_up(options.text, large, size=int(options.bytes))
        _kinds(Task(options.base, large, options.size, options.new), KINDS)


def _kinds(task: Task, rows: dict[str, Callable[[Task], Tokenizer]]) -> None:
    megabytes = task.text.stat().st_size / 1e6
    print(f"{task.base.name}, {task.text.name}: {megabytes:,.0f} MB; {task.size:,} tokens, {task.new:,} new")
    print(f"{'':<24}{'seconds':>9}{'CPU s':>9}{'peak GiB':>10}{'tokens':>9}{'bytes/token':>13}")
    for name, make in rows.items():
        seconds, cpu, peak, tokens, density = _apart(_measured, make, task)
        print(f"{name:<24}{seconds:>9.1f}{cpu:>9.1f}{peak:>10.2f}{tokens:>9,}{density:>13.3f}", flush=True)


def _ways(task: Task) -> None:
    print(f"\n{task.base.name} and {task.new:,} tokens more")
    print(f"{'':<30}{'kept':>7}{'unreachable':>13}{'bytes/token':>13}{'tokens':>9}")
    first = 0.0
    for name, make in WAYS.items():
        kept, unreachable, density = _apart(_extended, make, task)
        first = first or density
        print(f"{name:<30}{kept:>7,}{unreachable:>13,}{density:>13.3f}{first / density:>8.2f}×", flush=True)


def _apart(function: Callable, *arguments: object):  # noqa: ANN202
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _measured(make: Callable[[Task], Tokenizer], task: Task) -> tuple[float, float, float, int, float]:
    before, cpu = time.perf_counter(), time.process_time()
    tokenizer = make(task)
    seconds, cpu = time.perf_counter() - before, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return seconds, cpu, peak, tokenizer.get_vocab_size(), _density(tokenizer, task.heldout())


def _extended(make: Callable, task: Task) -> tuple[int, int, float]:
    tokenizer, found, kept = make(task)
    first = len(read_tokenizer(task.base).vocabulary)
    new = range(first, len(found.vocabulary))
    unreachable = sum(list(found.segment(found.vocabulary.tokens[id_])) != [id_] for id_ in new)
    return kept, unreachable, _density(tokenizer, task.heldout())


def _density(tokenizer: Tokenizer, texts: list[str]) -> float:
    tokens = sum(len(found.ids) for found in tokenizer.encode_batch(texts, add_special_tokens=False))
    return sum(len(text.encode()) for text in texts) / tokens


def _tokenizer(built: Built) -> Tokenizer:
    return built.tokenizer.tokenizer


def _foreign(task: Task) -> TokenizerFile:
    """A BPE of the text's own, in the base's scheme: the pieces that are to be added."""
    draft = bpe_draft(*task.read(), lambda _: 2 * task.new)
    return draft.build(draft.available).tokenizer


def _lacking(base: TokenizerFile, foreign: TokenizerFile, count: int) -> list[bytes]:
    """The first tokens of the other vocabulary that the base lacks and that are text."""
    own, found = set(base.vocabulary.tokens), []
    for token, kind in zip(foreign.vocabulary.tokens, foreign.vocabulary.kinds, strict=True):
        if kind is Kind.NORMAL and token not in own and token.decode(errors="replace").encode() == token:
            found.append(token)
    return found[:count]


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


def _blow_up(source: Path, target: Path, *, size: int) -> None:
    chance, language = random.Random(0), corpus_languages(source)[0]
    documents = [*corpus_documents(source, language, "train"), *corpus_documents(source, language, "heldout")]
    with target.open("wb") as file:
        for document in cycle(documents):
            words = document.split(" ")
            for at in range(chance.randrange(30), len(words), 30):
                other = words[chance.randrange(len(words))]
                words[at] = words[at][: 1 + len(words[at]) // 2] + other[len(other) // 2 :]
            file.write(json.dumps({"text": " ".join(words)}, ensure_ascii=False).encode() + b"\n")
            if file.tell() >= size:
                return


if __name__ == "__main__":
    main()
