"""Compare two tokenizers: the contents of their vocabularies, and how each tokenizes the same texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lep.core.metrics import bytes_per_token, characters_per_token
from lep.core.unicode_scripts import detect_script
from lep.core.vocabulary import TokenKind, Vocabulary
from lep.data.corpus import Split, list_corpus_languages, read_corpus_documents
from lep.data.documents import take_characters
from lep.errors import DataError
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

MAX_CHARACTERS = 1_000_000
"""Characters read of each language, approximately."""

FEW_TOKENS = 2
"""A word of at most this many tokens counts as one of few tokens."""


@dataclass(frozen=True)
class LanguageSample:
    """The text read of one language; a language without documents is left out of the statistics."""

    split: Split
    documents: int
    characters: int
    words: int
    skipped: dict[str, int]
    """Invalid documents, by reason."""

    def __str__(self) -> str:
        amount = f"{self.characters:,} characters of {self.documents:,} documents" if self.documents else "left out"
        split = ", held out" if self.split == "heldout" else ""
        return amount + split + "".join(f"; {n:,} documents skipped: {reason}" for reason, n in self.skipped.items())


@dataclass(frozen=True)
class TokenizationStats:
    """How a tokenizer tokenizes the texts of one language."""

    tokens: int
    bytes_per_token: float | None
    """UTF-8 bytes per token; `None` when it produces no token at all."""
    characters_per_token: float | None
    few_token_word_fraction: float
    """Fraction of words, split at white space and with a space before each, of at most `FEW_TOKENS` tokens."""
    unencodable_word_fraction: float
    """Fraction of words that it cannot encode; these make the numbers above look better than they are."""


@dataclass(frozen=True)
class TokenizerSummary:
    """One of the two tokenizers."""

    path: str
    tokens: int
    special_tokens: int
    unassigned_ids: int
    """Ids without a token."""
    scripts: dict[str, int]
    """Tokens that are not special, by the script of most of their letters."""
    shared: int
    """Tokens that the other tokenizer has: the same bytes, or the same text of a special token."""
    unique: int
    """Tokens that the other tokenizer does not have."""
    unreachable: int
    """Normal tokens whose own bytes are tokenized into something else."""
    unused_in_texts: int | None
    """Tokens, special ones aside, that do not occur in the texts; `None` without texts."""
    languages: dict[str, TokenizationStats]


@dataclass(frozen=True)
class TokenizerComparison:
    """Two tokenizers, and the texts that both tokenized."""

    a: TokenizerSummary
    b: TokenizerSummary
    samples: dict[str, LanguageSample]
    bytes_per_token_ratios: dict[str, float | None]
    """Bytes per token of B over those of A, by language: above 1, B needs fewer tokens for the same text."""


@dataclass(frozen=True)
class TokenizerComparisonRow:
    """One metric of both tokenizers; `ratio` is B over A where that is meaningful."""

    group: str
    metric: str
    a: int | float | None
    b: int | float | None
    ratio: float | None


def compare_tokenizers(a: Path, b: Path, *, texts: Path | None = None) -> TokenizerComparison:
    """Compare two tokenizers, and how they tokenize texts.

    Args:
        a: a folder or file that `read_tokenizer` reads.
        b: the other one.
        texts: a corpus of `collect`, a file of documents, or a folder of such files. The held-out split of each
            language is read, or the training split where nothing is held out; languages without documents are left out.

    Returns:
        The summary of each tokenizer, the samples that were read, and their ratios.

    Raises:
        TokenizerError: there is no tokenizer, or one of a kind that does not define the bytes of its tokens.
        DataError: there are no texts, or no document in any of them.
    """
    samples, documents = _read_texts(texts) if texts is not None else ({}, {})
    first, second = read_tokenizer(a), read_tokenizer(b)
    summary_a = _summarize_tokenizer(first, path=a, other=second.vocabulary, documents=documents)
    summary_b = _summarize_tokenizer(second, path=b, other=first.vocabulary, documents=documents)
    ratios = {
        language: _compute_ratio(
            summary_a.languages[language].bytes_per_token, summary_b.languages[language].bytes_per_token
        )
        for language in documents
    }
    return TokenizerComparison(a=summary_a, b=summary_b, samples=samples, bytes_per_token_ratios=ratios)


def tabulate_comparison(comparison: TokenizerComparison) -> Iterator[TokenizerComparisonRow]:
    """Yield every metric of a comparison as a table row, group by group."""
    a, b = comparison.a, comparison.b
    group = "vocabulary"
    yield TokenizerComparisonRow(group, "tokens", a.tokens, b.tokens, _compute_ratio(a.tokens, b.tokens))
    yield TokenizerComparisonRow(group, "special tokens", a.special_tokens, b.special_tokens, None)
    yield TokenizerComparisonRow(group, "ids without a token", a.unassigned_ids, b.unassigned_ids, None)
    yield TokenizerComparisonRow(group, "shared tokens", a.shared, b.shared, None)
    yield TokenizerComparisonRow(group, "unique tokens", a.unique, b.unique, None)
    yield TokenizerComparisonRow(group, "unreachable tokens", a.unreachable, b.unreachable, None)
    if comparison.bytes_per_token_ratios:
        yield TokenizerComparisonRow(group, "tokens unused in the texts", a.unused_in_texts, b.unused_in_texts, None)
    for script, _ in (Counter(a.scripts) | Counter(b.scripts)).most_common():
        counts = a.scripts.get(script, 0), b.scripts.get(script, 0)
        yield TokenizerComparisonRow("tokens by script", script, *counts, _compute_ratio(*counts))
    for language, ratio in comparison.bytes_per_token_ratios.items():
        yield from _tabulate_language(language, a.languages[language], b.languages[language], ratio=ratio)


def _tabulate_language(
    language: str, a: TokenizationStats, b: TokenizationStats, *, ratio: float | None
) -> Iterator[TokenizerComparisonRow]:
    yield TokenizerComparisonRow(language, "bytes per token", a.bytes_per_token, b.bytes_per_token, ratio)
    yield TokenizerComparisonRow(
        language, "characters per token", a.characters_per_token, b.characters_per_token, ratio
    )
    few = 100 * a.few_token_word_fraction, 100 * b.few_token_word_fraction
    yield TokenizerComparisonRow(language, f"% of words in ≤ {FEW_TOKENS} tokens", *few, None)
    unencodable = 100 * a.unencodable_word_fraction, 100 * b.unencodable_word_fraction
    if any(unencodable):
        yield TokenizerComparisonRow(language, "% of words it cannot encode", *unencodable, None)


def _read_texts(texts: Path) -> tuple[dict[str, LanguageSample], dict[str, list[str]]]:
    """Return the sample of every language, and the documents of those that have any."""
    samples, documents = {}, {}
    for language in list_corpus_languages(texts):
        samples[language], language_documents = _read_language(texts, language)
        if language_documents:
            documents[language] = language_documents
    if not documents:
        described = "; ".join(f"{language}: {sample}" for language, sample in samples.items())
        raise DataError(f"{texts}: no documents; a row must hold its text as 'text' ({described})")
    return samples, documents


def _read_language(texts: Path, language: str) -> tuple[LanguageSample, list[str]]:
    sample, documents = _read_split(texts, language, "heldout")
    return (sample, documents) if documents else _read_split(texts, language, "train")


def _read_split(texts: Path, language: str, split: Split) -> tuple[LanguageSample, list[str]]:
    skipped: Counter[str] = Counter()
    excerpt = take_characters(
        read_corpus_documents(texts, language, split, skipped=skipped), max_characters=MAX_CHARACTERS
    )
    documents = [document for document in excerpt if document.strip()]
    words = sum(len(document.split()) for document in documents)
    return LanguageSample(split, len(documents), sum(map(len, documents)), words, dict(skipped)), documents


def _list_token_keys(vocabulary: Vocabulary) -> list[tuple[bytes, bool]]:
    """Return what identifies each token: its bytes, and whether it is special (see `build_vocabulary_map`)."""
    entries = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    return [(token, kind is TokenKind.SPECIAL) for token, kind in entries if kind is not TokenKind.UNUSED]


def _summarize_tokenizer(
    file: TokenizerFile, *, path: Path, other: Vocabulary, documents: Mapping[str, Sequence[str]]
) -> TokenizerSummary:
    vocabulary = file.vocabulary
    keys, other_keys = _list_token_keys(vocabulary), set(_list_token_keys(other))
    shared = sum(key in other_keys for key in keys)
    ordinary = {id_ for id_, kind in enumerate(vocabulary.kinds) if kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK)}
    encoded = {language: file.encode_batch(texts) for language, texts in documents.items()}
    used = {id_ for texts in encoded.values() for ids in texts for id_ in ids}
    return TokenizerSummary(
        path=str(path),
        tokens=len(keys),
        special_tokens=len(keys) - len(ordinary),
        unassigned_ids=len(vocabulary) - len(keys),
        scripts=dict(Counter(detect_script(vocabulary.tokens[id_]) for id_ in ordinary).most_common()),
        shared=shared,
        unique=len(keys) - shared,
        unreachable=sum(
            list(file.segment(token)) != [id_]
            for id_, (token, kind) in enumerate(zip(vocabulary.tokens, vocabulary.kinds, strict=True))
            if kind is TokenKind.NORMAL
        ),
        unused_in_texts=len(ordinary - used) if documents else None,
        languages={
            language: _measure_tokenization(file, texts, tokens=sum(map(len, encoded[language])))
            for language, texts in documents.items()
        },
    )


def _measure_tokenization(file: TokenizerFile, texts: Sequence[str], *, tokens: int) -> TokenizationStats:
    words = Counter(word for text in texts for word in text.split())
    lengths = {word: len(file.segment(f" {word}".encode())) for word in words}
    return TokenizationStats(
        tokens=tokens,
        bytes_per_token=bytes_per_token(texts, tokens=tokens) if tokens else None,
        characters_per_token=characters_per_token(texts, tokens=tokens) if tokens else None,
        few_token_word_fraction=sum(n for word, n in words.items() if 0 < lengths[word] <= FEW_TOKENS) / words.total(),
        unencodable_word_fraction=sum(n for word, n in words.items() if not lengths[word]) / words.total(),
    )


def _compute_ratio(a: int | float | None, b: int | float | None) -> float | None:
    return b / a if a and b else None
