"""Settings of what is measured beside quality: how fast and how large models are, and what they lost."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from lep.config.base import Count, Settings

Texts = dict[str, Annotated[list[Path], Field(min_length=1)]]
"""Files of documents (.jsonl, .txt, .parquet) by the language or kind of their text: `{de: [german.jsonl]}`."""


class Efficiency(Settings):
    """How fast models read and write, in how much memory, and how much text they can look back on."""

    language: str
    """Language of the corpus, or name of other texts, that models read and continue; tables show the speed in it."""
    texts: Texts = Field(default={})
    """Texts to count tokens of, beside those of the corpus and of `side_effects`, by language or kind."""
    prompts: Count = 8
    """Prompts that a model reads and continues at once."""
    prompt_tokens: Count = 256
    """Length of each prompt: the same for every model."""
    new_tokens: Annotated[int, Field(ge=2)] = 64
    """Tokens that are written after each prompt, neither more nor fewer."""
    rounds: Annotated[int, Field(ge=6)] = 6
    """Turns of each model, in alternation with the reference; fewer than six medians have no interval of 95 %."""


class SideEffects(Settings):
    """What became of other languages, of arithmetic and code, and of the script of answers."""

    texts: Texts = Field(default={})
    """Texts whose bits per byte are compared, by language: those that the models were not adapted to."""
    characters: Count = 20_000
    """Characters that are read of each."""
