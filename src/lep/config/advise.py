"""Settings of `advise`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from lep.config.base import PositiveFloat, PositiveInt, Settings


class AdviseSettings(Settings):
    """Base + text → recommended size of a new vocabulary: what each size gains and costs, and if any is worth it."""

    base: Path
    """Folder of the base model, or of its tokenizer alone."""
    corpus: Path
    """Training text: a corpus made by `collect`, a file of documents, or a folder of such files."""
    kind: Literal["extended", "optimized"] = "extended"
    """`extended`: continue the merges of the base; `optimized`: prune the base to what the text uses, then continue
    it."""
    kept_tokens: PositiveInt | None = None
    """Tokens of the base that `optimized` keeps, special ones included; None: half of them."""
    mixture: dict[str, PositiveFloat] | None = None
    """Weight of each language in the text, in any unit: `{ru: 9, en: 1}`; others are only measured. None: all text as
    it is."""
    max_added_tokens: PositiveInt = 64_000
    """Largest number of new tokens to try; sizes double from 1,000 up to this or to what the text yields."""
    tokens: PositiveInt | None = None
    """Tokens that `pretrain` will train on, of text like this; None: one pass over the corpus."""
    hidden_size: PositiveInt | None = None
    """If base is only a tokenizer: hidden size of the model."""
    tie_word_embeddings: bool | None = None
    """If base is only a tokenizer: whether input and output embeddings are tied."""
    num_parameters: PositiveFloat | None = None
    """If base is only a tokenizer: number of parameters of the model, embeddings included."""

    @model_validator(mode="after")
    def _check_consistency(self) -> AdviseSettings:
        if self.kept_tokens and self.kind != "optimized":
            raise ValueError("kept_tokens belongs to kind=optimized")
        if len({value is None for value in (self.hidden_size, self.tie_word_embeddings, self.num_parameters)}) > 1:
            raise ValueError(
                "hidden_size, tie_word_embeddings and num_parameters describe a model together; give all three, or none"
            )
        return self
