"""Count the words of a corpus in bounded memory, to train vocabularies on.

A word is a pre-token of the tokenizer, in the form in which the tokenizer stores it. SentencePiece has no
pre-tokenizer; there a word is a run of letters, of other characters or of spaces, with the space before it.
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

from lep.data.corpus import get_corpus_bytes, list_corpus_languages, read_corpus_documents
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile
from lep.progress import log_message, track_progress

SPILL_THRESHOLD = 2_000_000
"""Distinct words held in memory; beyond it, counts are written to disk in sorted runs and merged on reading."""

MIN_SPILLED_COUNT = 2
"""Minimum occurrences of a word in a corpus that was large enough to spill."""

_SENTENCEPIECE_WORD = r"▁?[\p{L}\p{M}]+|\p{N}|▁?[^▁\p{L}\p{M}\p{N}]+|▁+"


class WordCounter:
    """Counts words, spilling to disk when there are many. Iterating yields (word, count), each word once."""

    def __init__(self, *, spill_threshold: int = SPILL_THRESHOLD) -> None:
        self.spill_threshold = spill_threshold
        self.characters = 0
        self._counts: Counter[str] = Counter()
        self._spilled_files: list[Path] = []
        self._folder = TemporaryDirectory(prefix="lep-words-")

    def add(self, words: Iterable[str]) -> None:
        """Count words."""
        self._counts.update(words)
        if len(self._counts) >= self.spill_threshold:
            self._spill()

    def __iter__(self) -> Iterator[tuple[str, int]]:
        if not self._spilled_files:
            yield from self._counts.items()
            return
        if self._counts:
            self._spill()
        with ExitStack() as stack:
            files = [stack.enter_context(path.open(encoding="utf-8")) for path in self._spilled_files]
            for word, count in _sum_adjacent(heapq.merge(*(map(json.loads, file) for file in files))):
                if count >= MIN_SPILLED_COUNT:
                    yield word, count

    def _spill(self) -> None:
        path = Path(self._folder.name) / str(len(self._spilled_files))
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(item) + "\n" for item in sorted(self._counts.items()))
        self._spilled_files.append(path)
        self._counts = Counter()


class WeightedWordCounts:
    """Word counts of several languages, scaled to the shares of a mixture. Iterating yields (word, count).

    Args:
        counters: word counts by language.
        shares: share of the text by language, in any unit; `None`: the text as it is.
        skipped: invalid documents, by reason.
    """

    def __init__(
        self,
        counters: Mapping[str, WordCounter],
        shares: Mapping[str, float] | None = None,
        *,
        skipped: Mapping[str, int] | None = None,
    ) -> None:
        self.counters = counters
        self.skipped = dict(skipped or {})
        characters = {language: counter.characters for language, counter in counters.items()}
        shares = shares or characters
        scale = sum(characters.values()) / sum(shares.values())
        self.factors = {language: shares[language] * scale / characters[language] for language in counters}

    def __iter__(self) -> Iterator[tuple[str, int]]:
        for language, words in self.counters.items():
            factor = self.factors[language]
            for word, count in words:
                if scaled := count if factor == 1 else round(count * factor):
                    yield word, scaled


def count_words(tokenizer: TokenizerFile, corpus: Path, *, mixture: Mapping[str, float] | None) -> WeightedWordCounts:
    """Count the words of the training splits of a corpus.

    Args:
        tokenizer: splits text into words.
        corpus: a corpus of `collect`, a file of documents, or a folder of such files.
        mixture: share of the text by language, in any unit; languages without a share are not read. `None`: all
            languages, as they are.

    Returns:
        The counts, scaled to the mixture.

    Raises:
        DataError: a language of the mixture is not in the corpus, or has no text.
    """
    split = build_word_splitter(tokenizer)
    counters: dict[str, WordCounter] = {}
    skipped: Counter[str] = Counter()
    for language in mixture or list_corpus_languages(corpus):
        words = counters[language] = WordCounter()
        size = get_corpus_bytes(corpus, language)
        with track_progress(f"counting words of {language}", total=size, unit="bytes") as advance:
            for document in read_corpus_documents(corpus, language, "train", skipped=skipped):
                words.add(split(document))
                words.characters += len(document)
                advance(len(document.encode()))
        if not words.characters:
            raise DataError(f"{corpus}: there is no text of {language!r} to train on")
    if skipped:
        log_message(f"{skipped.total()} invalid documents skipped: {dict(skipped)}")
    return WeightedWordCounts(counters, mixture, skipped=skipped)


def count_characters(words: Iterable[tuple[str, int]]) -> Counter[str]:
    """Count the characters of counted words."""
    counts: Counter[str] = Counter()
    for word, count in words:
        for character in word:
            counts[character] += count
    return counts


def build_word_splitter(tokenizer: TokenizerFile) -> Callable[[str], list[str]]:
    """Return a function that splits a text into words, in the form in which the tokenizer stores them."""
    normalizer, pre_tokenizer = tokenizer.tokenizer.normalizer, tokenizer.tokenizer.pre_tokenizer
    if tokenizer.scheme == "sentencepiece":
        words = pre_tokenizers.Split(Regex(_SENTENCEPIECE_WORD), "isolated")
        # A pre-tokenizer may be what writes the `▁`.
        pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizer, words]) if pre_tokenizer else words

    def split(text: str) -> list[str]:
        normalized = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in pre_tokenizer.pre_tokenize_str(normalized)]

    return split


def _sum_adjacent(items: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Add up adjacent items with the same word."""
    last, total = "", 0
    for word, count in items:
        if word != last:
            if total:
                yield last, total
            last, total = word, 0
        total += count
    if total:
        yield last, total
