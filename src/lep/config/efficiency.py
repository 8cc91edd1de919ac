"""Settings of the efficiency and side-effect measurements of `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lep.config.base import PositiveInt, Settings

TextFiles = dict[str, Annotated[list[Path], Field(min_length=1)]]
"""Files of documents (.jsonl, .txt, .parquet) by the language or kind of their text: `{de: [german.jsonl]}`."""


class EfficiencySettings(Settings):
    """Speed of reading and generation, memory, and context length in characters."""

    language: str
    """Language of the corpus, or name of other texts, that models read and continue; tables show the speed on it."""
    texts: TextFiles = Field(default={})
    """Further texts to count tokens of, besides those of the corpus and of `side_effects`, by language or kind."""
    batch_size: PositiveInt = 8
    """Number of prompts that a model reads and continues at once."""
    prompt_tokens: PositiveInt = 256
    """Length of each prompt in tokens, the same for every model."""
    generated_tokens: Annotated[int, Field(ge=2)] = 64
    """Number of tokens generated after each prompt."""
    rounds: Annotated[int, Field(ge=6)] = 6
    """Rounds in which each model alternates with the reference; a median of fewer than six has no 95 % interval."""


class SideEffectsSettings(Settings):
    """Effects on other languages, arithmetic, code, and the script of answers."""

    texts: TextFiles = Field(default={})
    """Texts whose bits per byte are compared, by language: languages that the models were not adapted to."""
    characters: PositiveInt = 20_000
    """Number of characters to read of each text."""
