"""Settings of `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lep.config.base import Settings


class ReportSettings(Settings):
    """An evaluation and every stage that led to it → one page."""

    evaluation: Path
    """An evaluation made by `evaluate`; earlier stages are found through its manifest."""
    title: str = "LEP"
    """Heading of the page."""
    language: Literal["en", "ru"] = "en"
    """Language of the page: English or Russian."""
    paper_rows: dict[str, str] | None = None
    """Rows of the paper's tables to compare with, by the names of our models, for example
    `{conversion: LLaMa-3-8B-Instruct/Extended/Conversion}`; a model with the name of a row is compared anyway."""
