"""Settings of `collect`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from lep.config.base import PositiveInt, Settings, UnitInterval
from lep.config.data_source import DataSource


class CorpusSource(DataSource):
    """Text of one language: files, or a data set."""

    text_field: str = "text"
    """The key (jsonl) or column (parquet, data set) with the text of a document."""
    script: str | None = None
    """Unicode script that most letters must be of, for example `Cyrillic` or `Latin`; None: any."""
    language: str | None = None
    """ISO 639-1 code of the language that a document must be identified as, for example `ru`; None: any."""
    max_characters: PositiveInt | None = None
    """Stop reading after about this many characters of kept text; None: read everything."""


class CollectSettings(Settings):
    """Raw text → corpus: clean, deduplicated, split into train and held-out documents."""

    sources: dict[str, CorpusSource]
    """One source per language; the key (`ru`, `en`) names the language in every later stage."""
    min_characters: PositiveInt = 40
    """Drop shorter documents."""
    min_script_fraction: UnitInterval = 0.7
    """Minimum fraction of a document's letters that are of the source's script."""
    near_duplicate_threshold: Annotated[float, Field(ge=0.5, le=0.95)] | None = 0.8
    """Drop a document if about this fraction of its word 5-grams and those of an earlier one is common to both (Jaccard
    similarity); None: only if the two are equal."""
    heldout_fraction: UnitInterval = 0.02
    """Fraction of documents kept out of all training, chosen by a hash of their text."""
    seed: int = 0
    """Seed of the choice of held-out documents."""
