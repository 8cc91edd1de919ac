"""Settings of `retokenize`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from lep.config.base import PositiveFloat, PositiveInt, Settings

VocabularyKind = Literal["extended", "optimized", "bpe", "unigram"]


class RetokenizeSettings(Settings):
    """Base tokenizer + text → tokenizer for the language, with checks that it is exact."""

    base: Path
    """Folder of the base model or of its tokenizer."""
    corpus: Path
    """Training text: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: VocabularyKind = "extended"
    """`extended`: continue the merges of the base; `optimized`: prune the base to what the text uses, then continue it;
    `bpe`, `unigram`: replace the base's vocabulary by a new one."""
    vocab_size: PositiveInt | None = None
    """Total number of tokens, special ones included. Give one of `vocab_size`, `new_tokens`, `characters_per_token`."""
    new_tokens: PositiveInt | None = None
    """Tokens added to the base, or to what is kept of it (extended, optimized)."""
    characters_per_token: PositiveFloat | None = None
    """Make the smallest vocabulary that reaches this on the mixture's held-out text (not unigram)."""
    kept_tokens: PositiveInt | None = None
    """Tokens of the base that `optimized` keeps, special ones included; None: half of them, as in the paper."""
    mixture: dict[str, PositiveFloat] | None = None
    """Weight of each language in the text, in any unit: `{ru: 9, en: 1}`; others are not used. None: all text as it
    is."""
    import_tokens_from: Path | None = None
    """A tokenizer whose tokens `extended` adds, instead of training new ones."""

    @model_validator(mode="after")
    def _check_consistency(self) -> RetokenizeSettings:
        sizes = [name for name in ("vocab_size", "new_tokens", "characters_per_token") if getattr(self, name)]
        if len(sizes) > 1 or not (sizes or self.import_tokens_from):
            raise ValueError(f"give one of vocab_size, new_tokens, characters_per_token; found {sizes or 'none'}")
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if self.import_tokens_from and self.kind != "extended":
            raise ValueError("import_tokens_from belongs to kind=extended")
        if self.new_tokens and self.kind in ("bpe", "unigram"):
            raise ValueError(f"kind={self.kind} replaces the vocabulary; give vocab_size instead of new_tokens")
        if self.characters_per_token and self.kind == "unigram":
            raise ValueError("kind=unigram has a fixed size; give vocab_size instead of characters_per_token")
        return self
