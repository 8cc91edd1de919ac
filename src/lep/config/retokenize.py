"""Settings of `retokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from lep.config.base import Count, Positive, Settings

VocabularyKind = Literal["extended", "optimized", "bpe", "unigram"]


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
