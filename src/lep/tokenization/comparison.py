"""Two tokenizers side by side: what is in each vocabulary, and how each writes the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lep.core.metrics import bytes_per_token, symbols_per_token
from lep.core.unicode_scripts import script_of
from lep.core.vocabulary import Kind, Vocabulary
from lep.data.corpus import Split, corpus_documents, corpus_languages
from lep.data.documents import beginning
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

CHARACTERS = 1_000_000
"""So much of each language is read, about."""

FEW_TOKENS = 2
"""A word in no more tokens than these is written in few."""


@dataclass(frozen=True)
class Sample:
    """What was read of one language; one without documents is left out of the numbers."""

    half: Split
    documents: int
    characters: int
    words: int
    skipped: dict[str, int]
    """Bad documents that were met, by reason."""

    def __str__(self) -> str:
        words = f"{self.characters:,} characters of {self.documents:,} documents" if self.documents else "left out"
        half = ", held out" if self.half == "heldout" else ""
        return words + half + "".join(f"; {n:,} documents skipped: {reason}" for reason, n in self.skipped.items())


@dataclass(frozen=True)
class Writing:
    """How a tokenizer writes the texts of one language."""

    tokens: int
    bytes_per_token: float | None
    """UTF-8 bytes over tokens; None when it writes no token at all."""
    symbols_per_token: float | None
    words_in_few: float
    """Share of the words, split at whitespace and with a space before each, in at most `FEW_TOKENS` tokens."""
    words_unspelt: float
    """Share of the words that it cannot spell; these make the numbers above look better than they are."""


@dataclass(frozen=True)
class Side:
    """One of the two tokenizers."""

    path: str
    tokens: int
    special: int
    holes: int
    """Ids without a token."""
    scripts: dict[str, int]
    """Tokens that are not special, by the script of most of their letters."""
    shared: int
    """Tokens that the other one has: the same bytes, or the same text of a special token."""
    alone: int
    """Tokens that the other one has not."""
    unreachable: int
    """Normal tokens whose own bytes are segmented into something else."""
    unused: int | None
    """Tokens, special ones aside, that none of the texts uses; None without texts."""
    languages: dict[str, Writing]


@dataclass(frozen=True)
class Comparison:
    """Two tokenizers, and the texts that both wrote."""

    a: Side
    b: Side
    texts: dict[str, Sample]
    b_over_a: dict[str, float | None]
    """Bytes per token of B over those of A, by language: above 1, B writes the same text in fewer tokens."""


@dataclass(frozen=True)
class Row:
    """One measure of both; `ratio` is B over A where that means something."""

    group: str
    measure: str
    a: float | None
    b: float | None
    ratio: float | None


def compare(a: Path, b: Path, *, texts: Path | None = None) -> Comparison:
    """Look at two tokenizers, and let both write texts.

    Args:
        a: a folder or file that `read_tokenizer` reads.
        b: the other one.
        texts: what `lep.data.corpus` reads. The held-out half of each language is used, or the train half where
            nothing is held out; languages without documents are left out.

    Raises:
        TokenizerError: nothing to read there, or a kind of tokenizer that has no bytes.
        DataError: no texts there, or no document in any of them.
    """
    samples, documents = _read_texts(texts) if texts is not None else ({}, {})
    first, second = _read_tokenizer(a), _read_tokenizer(b)
    of_a = _side(first, path=a, other=second.vocabulary, documents=documents)
    of_b = _side(second, path=b, other=first.vocabulary, documents=documents)
    ratios = {
        language: _ratio(of_a.languages[language].bytes_per_token, of_b.languages[language].bytes_per_token)
        for language in documents
    }
    return Comparison(a=of_a, b=of_b, texts=samples, b_over_a=ratios)


def rows(found: Comparison) -> Iterator[Row]:
    """The comparison as a table: every measure, group by group."""
    a, b = found.a, found.b
    group = "vocabulary"
    yield Row(group, "tokens", a.tokens, b.tokens, _ratio(a.tokens, b.tokens))
    yield Row(group, "special tokens", a.special, b.special, None)
    yield Row(group, "ids without a token", a.holes, b.holes, None)
    yield Row(group, "shared tokens", a.shared, b.shared, None)
    yield Row(group, "tokens only here", a.alone, b.alone, None)
    yield Row(group, "unreachable tokens", a.unreachable, b.unreachable, None)
    if found.b_over_a:
        yield Row(group, "tokens unused in the texts", a.unused, b.unused, None)
    for script, _ in (Counter(a.scripts) | Counter(b.scripts)).most_common():
        counts = a.scripts.get(script, 0), b.scripts.get(script, 0)
        yield Row("tokens by script", script, *counts, _ratio(*counts))
    for language, ratio in found.b_over_a.items():
        x, y = a.languages[language], b.languages[language]
        yield Row(language, "bytes per token", x.bytes_per_token, y.bytes_per_token, ratio)
        yield Row(language, "symbols per token", x.symbols_per_token, y.symbols_per_token, ratio)
        yield Row(language, f"% of words in ≤ {FEW_TOKENS} tokens", 100 * x.words_in_few, 100 * y.words_in_few, None)
        if x.words_unspelt or y.words_unspelt:
            yield Row(language, "% of words it cannot spell", 100 * x.words_unspelt, 100 * y.words_unspelt, None)


def _read_texts(texts: Path) -> tuple[dict[str, Sample], dict[str, list[str]]]:
    """What was read of every language, and the documents of those that have any."""
    samples, documents = {}, {}
    for language in corpus_languages(texts):
        samples[language], found = _read_language(texts, language)
        if found:
            documents[language] = found
    if not documents:
        found = "; ".join(f"{language}: {sample}" for language, sample in samples.items())
        raise DataError(f"{texts}: no documents; a row must hold its text as 'text' ({found})")
    return samples, documents


def _read_language(texts: Path, language: str) -> tuple[Sample, list[str]]:
    sample, documents = _read_half(texts, language, "heldout")
    return (sample, documents) if documents else _read_half(texts, language, "train")


def _read_half(texts: Path, language: str, half: Split) -> tuple[Sample, list[str]]:
    skipped: Counter[str] = Counter()
    read = beginning(corpus_documents(texts, language, half, skipped=skipped), characters=CHARACTERS)
    found = [document for document in read if document.strip()]
    words = sum(len(document.split()) for document in found)
    return Sample(half, len(found), sum(map(len, found)), words, dict(skipped)), found


def _read_tokenizer(path: Path) -> TokenizerFile:
    """A tokenizer that neither cuts nor pads."""
    read = read_tokenizer(path)
    return replace(read, state=read.state | {"truncation": None, "padding": None})


def _keys(vocabulary: Vocabulary) -> list[tuple[bytes, bool]]:
    """What makes tokens the same, of every token: its bytes, and whether it is special (see `vocabulary_map`)."""
    entries = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    return [(token, kind is Kind.SPECIAL) for token, kind in entries if kind is not Kind.HOLE]


def _side(file: TokenizerFile, *, path: Path, other: Vocabulary, documents: Mapping[str, Sequence[str]]) -> Side:
    vocabulary = file.vocabulary
    keys, others = _keys(vocabulary), set(_keys(other))
    shared = sum(key in others for key in keys)
    ordinary = {id_ for id_, kind in enumerate(vocabulary.kinds) if kind in (Kind.NORMAL, Kind.BYTE)}
    used: set[int] = set()
    languages = {language: _write(file, texts, used=used) for language, texts in documents.items()}
    return Side(
        path=str(path),
        tokens=len(keys),
        special=len(keys) - len(ordinary),
        holes=len(vocabulary) - len(keys),
        scripts=dict(Counter(script_of(vocabulary.tokens[id_]) for id_ in ordinary).most_common()),
        shared=shared,
        alone=len(keys) - shared,
        unreachable=sum(
            list(file.segment(token)) != [id_]
            for id_, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
            if kind is Kind.NORMAL
        ),
        unused=len(ordinary - used) if documents else None,
        languages=languages,
    )


def _write(file: TokenizerFile, texts: Sequence[str], *, used: set[int]) -> Writing:
    """Let a tokenizer write texts; the ids that it uses are added to `used`."""
    tokens = 0
    for encoding in file.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False):
        ids = encoding.ids
        tokens += len(ids)
        used.update(ids)
    words = Counter(word for text in texts for word in text.split())
    lengths = {word: len(file.segment(f" {word}".encode())) for word in words}
    return Writing(
        tokens=tokens,
        bytes_per_token=bytes_per_token(texts, tokens=tokens) if tokens else None,
        symbols_per_token=symbols_per_token(texts, tokens=tokens) if tokens else None,
        words_in_few=sum(n for word, n in words.items() if 0 < lengths[word] <= FEW_TOKENS) / words.total(),
        words_unspelt=sum(n for word, n in words.items() if not lengths[word]) / words.total(),
    )


def _ratio(a: float | None, b: float | None) -> float | None:
    return b / a if a and b else None
