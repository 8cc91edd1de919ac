"""How often each word of a corpus occurs, in bounded memory: what vocabularies are learnt from.

A word is what the tokenizer's own pre-tokenizer makes of the text, as the tokenizer stores it. SentencePiece has no
pre-tokenizer: there a word is a run of letters, of other signs or of spaces, with the space before it.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from tokenizers import Regex, pre_tokenizers

from lep.data.corpus import corpus_bytes, corpus_documents, corpus_languages
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.progress import note, progress

SPILL = 2_000_000
"""Distinct words held in memory; more are written to disk, in order, and merged when they are read."""

SPILLED_FLOOR = 2
"""Occurrences that a word needs to count, once a corpus was large enough to spill."""

_SENTENCEPIECE_WORD = r"▁?[\p{L}\p{M}]+|\p{N}|▁?[^▁\p{L}\p{M}\p{N}]+|▁+"


class Words:
    """Words with their counts, most of them on disk when there are many. Iterate: (word, count), each word once."""

    def __init__(self, *, spill: int = SPILL) -> None:
        self.spill = spill
        self.characters = 0
        self._counts: Counter[str] = Counter()
        self._runs: list[Path] = []
        self._folder = TemporaryDirectory(prefix="lep-words-")

    def add(self, words: Iterable[str]) -> None:
        """Count these words."""
        self._counts.update(words)
        if len(self._counts) >= self.spill:
            self._write()

    def __iter__(self) -> Iterator[tuple[str, int]]:
        if not self._runs:
            yield from self._counts.items()
            return
        if self._counts:
            self._write()
        with ExitStack() as stack:
            files = [stack.enter_context(run.open(encoding="utf-8")) for run in self._runs]
            for word, count in _summed(heapq.merge(*(map(json.loads, file) for file in files))):
                if count >= SPILLED_FLOOR:
                    yield word, count

    def _write(self) -> None:
        run = Path(self._folder.name) / str(len(self._runs))
        with run.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(item) + "\n" for item in sorted(self._counts.items()))
        self._runs.append(run)
        self._counts = Counter()


class WordMix:
    """The words of several languages, each language weighing what it should. Iterate: (word, count)."""

    def __init__(self, words: Mapping[str, Words], weights: Mapping[str, float] | None = None) -> None:
        self.words = words
        characters = {language: found.characters for language, found in words.items()}
        shares = weights or characters
        scale = sum(characters.values()) / sum(shares.values())
        self.factors = {language: shares[language] * scale / characters[language] for language in words}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for language, words in self.words.items():
            factor = self.factors[language]
            for word, count in words:
                if scaled := count if factor == 1 else round(count * factor):
                    yield word, scaled


def count_words(
    tokenizer: TokenizerFile, corpus: Path, *, mixture: Mapping[str, float] | None, skipped: Counter[str]
) -> WordMix:
    """Count the words of a corpus's train halves.

    Args:
        tokenizer: tells words apart.
        corpus: see `lep.data.corpus`.
        mixture: the languages to read and the share of each; none: all of them, as they are.
        skipped: counts bad documents by reason.

    Raises:
        DataError: a language of the mixture is not there, or has no text.
    """
    split = splitter(tokenizer)
    found: dict[str, Words] = {}
    for language in mixture or corpus_languages(corpus):
        words = found[language] = Words()
        size = corpus_bytes(corpus, language)
        with progress(f"counting words of {language}", total=size, unit="bytes") as advance:
            for document in corpus_documents(corpus, language, "train", skipped=skipped):
                words.add(split(document))
                words.characters += len(document)
                advance(len(document.encode()))
        if not words.characters:
            raise DataError(f"{corpus}: there is no text of {language!r} to learn from")
    if skipped:
        note(f"{skipped.total()} bad documents skipped: {dict(skipped)}")
    return WordMix(found, mixture)


def character_counts(words: Iterable[tuple[str, int]]) -> Counter[str]:
    """How often each character occurs in counted words."""
    counts: Counter[str] = Counter()
    for word, count in words:
        for character in word:
            counts[character] += count
    return counts


def splitter(tokenizer: TokenizerFile) -> Callable[[str], list[str]]:
    """What makes words of a text, as the tokenizer stores them."""
    normalizer, cut = tokenizer.tokenizer.normalizer, tokenizer.tokenizer.pre_tokenizer
    if tokenizer.scheme == "sentencepiece":
        words = pre_tokenizers.Split(Regex(_SENTENCEPIECE_WORD), "isolated")
        cut = pre_tokenizers.Sequence([cut, words]) if cut else words  # a pre-tokenizer may write the `▁`

    def split(text: str) -> list[str]:
        normal = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in cut.pre_tokenize_str(normal)]

    return split


def _summed(items: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Neighbours with the same word, added up."""
    last, total = "", 0
    for word, count in items:
        if word != last:
            if total:
                yield last, total
            last, total = word, 0
        total += count
    if total:
        yield last, total
