"""Settings of `initialize`."""

from __future__ import annotations

from pathlib import Path

from lep.config.base import PositiveInt, Settings


class EmbeddingNamesSettings(Settings):
    """Tensor names of a model's input and output embeddings."""

    embed: str
    """Input embeddings, for example `model.embed_tokens.weight`."""
    head: str
    """Output embeddings, for example `lm_head.weight`; the same name if they are tied."""


class InitializeSettings(Settings):
    """Base model + tokenizer → model with new embeddings: each new row is the mean of the rows of its old tokens."""

    base: Path
    """Folder of the base model."""
    tokenizer: Path
    """A tokenizer made by `retokenize`, or any folder with a tokenizer."""
    pad_to_multiple_of: PositiveInt = 64
    """Pad the rows of the embeddings to a multiple of this, which suits the hardware; the tokenizer is not changed."""
    embedding_names: EmbeddingNamesSettings | None = None
    """Tensor names of the embeddings, for a model in which lep cannot find them by itself."""
