"""Settings of the rooms that make a corpus and a vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from lep.config.base import Count, Positive, Settings, Share
from lep.config.data_source import Origin

VocabularyKind = Literal["extended", "optimized", "bpe", "unigram"]


class Source(Origin):
    """Text of one language: files, or a data set that `datasets` reads."""

    field: str = "text"
    """The key (jsonl) or the column (parquet, data set) that holds a document's text."""
    script: str | None = None
    """Unicode script that most letters must be of, as in `Cyrillic` or `Latin`; none: any."""
    language: str | None = None
    """ISO 639-1 code of the language that a document must be identified as, as `ru`; none: any."""
    maximum_characters: Count | None = None
    """Stop reading after about this many characters of kept text; none: read all."""


class Collect(Settings):
    """Raw text → corpus: clean, deduplicated, split into train and held-out."""

    sources: dict[str, Source]
    """One source a language; the key (`ru`, `en`) names the language in every later room."""
    minimum_characters: Count = 40
    """Shorter documents are dropped."""
    script_share: Share = 0.7
    """Share of a document's letters that must be of its source's script."""
    near_duplicates: Annotated[float, Field(ge=0.5, le=0.95)] | None = 0.8
    """A document is dropped when about this share of its and an earlier one's runs of five words is in both; none: only
    when the two are equal."""
    heldout_share: Share = 0.02
    """Share of documents kept away from all training, chosen by a hash of their text."""
    seed: int = 0
    """Changes which documents are held out."""


class Advise(Settings):
    """Base + text → how large a new vocabulary should be, what each size brings and costs, or that none is worth it."""

    base: Path
    """Folder of the base model; of its tokenizer alone, where there is no model yet."""
    corpus: Path
    """Text to learn from: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: Literal["extended", "optimized"] = "extended"
    """`extended`: the base's merges, continued; `optimized`: the base cut to what the text uses, then continued."""
    kept_tokens: Count | None = None
    """Tokens to which `optimized` cuts the base, special ones included; none: half of them."""
    mixture: dict[str, Positive] | None = None
    """Share of the text by language, in any unit: `{ru: 9, en: 1}`; others are only shown; none: all text as it is."""
    largest: Count = 64_000
    """Sizes are looked at from 1,000 new tokens on, each twice the one before, up to this or what the text yields."""
    tokens: Count | None = None
    """Tokens that `pretrain` will train on, of text like this; none: the corpus, read once."""
    width: Count | None = None
    """Where base is only a tokenizer: numbers in a row of the model's tables."""
    tied: bool | None = None
    """Where base is only a tokenizer: whether one table is both embed and head."""
    parameters: Positive | None = None
    """Where base is only a tokenizer: all parameters of the model, its tables included."""

    @model_validator(mode="after")
    def _agree(self) -> Advise:
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if len({value is None for value in (self.width, self.tied, self.parameters)}) > 1:
            raise ValueError("width, tied and parameters describe a model together; give all three, or none")
        return self


class Retokenize(Settings):
    """Base tokenizer + text → tokenizer for the language, with proofs."""

    base: Path
    """Folder of the base model or of its tokenizer."""
    corpus: Path
    """Text to learn from: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: VocabularyKind = "extended"
    """`extended`: the base's merges, continued; `optimized`: the base cut to what the text uses, then continued; `bpe`,
    `unigram`: a new vocabulary in the base's place."""
    vocabulary_size: Count | None = None
    """Tokens in all, special ones included; this, `new_tokens` or `symbols_per_token` says how large it becomes."""
    new_tokens: Count | None = None
    """Tokens that are added to the base, or to what is kept of it (extended, optimized)."""
    symbols_per_token: Positive | None = None
    """The smallest vocabulary that reaches this on the mixture's held-out text (not unigram)."""
    kept_tokens: Count | None = None
    """Tokens to which `optimized` cuts the base, special ones included; none: half of them, as in the paper."""
    mixture: dict[str, Positive] | None = None
    """Share of the text by language, in any unit: `{ru: 9, en: 1}`; others teach nothing; none: all text as it is."""
    pieces: Path | None = None
    """A tokenizer whose tokens `extended` takes, instead of learning its own."""

    @model_validator(mode="after")
    def _agree(self) -> Retokenize:
        sizes = [name for name in ("vocabulary_size", "new_tokens", "symbols_per_token") if getattr(self, name)]
        if len(sizes) > 1 or not (sizes or self.pieces):
            raise ValueError(f"give one of vocabulary_size, new_tokens, symbols_per_token; found {sizes or 'none'}")
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if self.pieces and self.kind != "extended":
            raise ValueError("pieces belongs to kind=extended")
        if self.new_tokens and self.kind in ("bpe", "unigram"):
            raise ValueError(f"kind={self.kind} adds nothing to the base; give vocabulary_size instead of new_tokens")
        if self.symbols_per_token and self.kind == "unigram":
            raise ValueError("kind=unigram must know its size; give vocabulary_size instead of symbols_per_token")
        return self
