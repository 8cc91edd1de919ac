"""Settings of `initialize`."""

from __future__ import annotations

from pathlib import Path

from lep.config.base import Count, Settings


class Tables(Settings):
    """Names of a model's two tables among its tensors."""

    embed: str
    """The input embedding, as in `model.embed_tokens.weight`."""
    head: str
    """The output embedding, as in `lm_head.weight`; the same name when one matrix is both."""


class Initialize(Settings):
    """Base model + tokenizer → model with new tables, each new row the mean of its pieces' rows (T·E)."""

    base: Path
    """Folder of the base model."""
    tokenizer: Path
    """A tokenizer made by `retokenize`, or any folder with a tokenizer."""
    pad_to_multiple: Count = 64
    """The tables get a multiple of so many rows, which suits the hardware; the tokenizer is left as it is."""
    tables: Tables | None = None
    """The two tables' tensors, where neither the family nor names and shapes tell."""
