"""Settings of `collect`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lep.config.base import Count, Settings, Share
from lep.config.data_source import Origin


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
