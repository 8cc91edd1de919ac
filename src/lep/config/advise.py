"""Settings of `advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from lep.config.base import Count, Positive, Settings


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
