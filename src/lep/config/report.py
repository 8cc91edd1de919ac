"""Settings of `report`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from lep.config.base import Settings


class Report(Settings):
    """An evaluation and all that led to it → one page."""

    evaluation: Path
    """An evaluation made by `evaluate`; the rooms before it are found through its manifest."""
    title: str = "LEP"
    """Heading of the page."""
    language: Literal["en", "ru"] = "en"
    """What the page speaks: English or Russian."""
    paper: dict[str, str] | None = None
    """Rows of the paper's tables to show our scores beside, by our models' names, as in
    `{conversion: LLaMa-3-8B-Instruct/Extended/Conversion}`; a model that is called as a row needs no word."""
