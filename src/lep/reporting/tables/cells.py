"""Cells of comparison tables: a rounded measure, its interval, and the change against the reference."""

from __future__ import annotations

from dataclasses import dataclass

from lep.reporting import formatting
from lep.reporting.i18n import gettext
from lep.results.statistics import Difference, MeasuredValue, Ratio


@dataclass(frozen=True)
class Cell:
    """A measure as text."""

    value: str
    interval: str = ""
    change: str = ""
    """Difference or ratio to the reference; empty for the reference itself."""
    verdict: str = ""
    """better · worse · noise; empty where there is no interval."""

    def __str__(self) -> str:
        """Format the cell for a terminal."""
        first = f"{self.value} ({self.interval})" if self.interval else self.value
        return f"{first}\n{self.change} {verdict_label(self.verdict)}".rstrip() if self.change else first


@dataclass(frozen=True)
class Row:
    """A model, or a task."""

    name: str
    note: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ComparisonTable:
    """Rows × columns, with a title."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


EMPTY_CELL = Cell(formatting.NOT_MEASURED)


def build_cell(
    measure: MeasuredValue | None,
    change: Difference | Ratio | None,
    formatter: formatting.Formatter,
    *,
    higher_is_better: bool = True,
) -> Cell:
    """Format a measure and its change as a cell.

    Args:
        measure: The measure; None gives an empty cell.
        change: Difference or ratio to the reference; None for the reference itself.
        formatter: Rounds the measure.
        higher_is_better: Whether a larger measure is better.

    Returns:
        The cell, with a verdict where the change has an interval.
    """
    if measure is None:
        return EMPTY_CELL
    interval = formatting.format_interval(measure.interval, formatter) if measure.interval else ""
    if change is None:
        return Cell(formatter(measure.value), interval)
    change_text = (
        formatting.format_ratio(change.ratio, 1)
        if isinstance(change, Ratio)
        else formatting.format_signed(change.difference, formatter)
    )
    verdict = classify_change(change, higher_is_better=higher_is_better)
    return Cell(formatter(measure.value), interval, change_text, verdict)


def verdict_label(verdict: str) -> str:
    """Translate a verdict; an empty text for an empty verdict."""
    labels = {
        "better": gettext("better"),
        "worse": gettext("worse"),
        "noise": gettext("noise"),
        "the same": gettext("the same"),
    }
    return labels.get(verdict, "")


def classify_change(change: Difference | Ratio, *, higher_is_better: bool = True) -> str:
    """Return `better` or `worse`; `noise` if the interval contains no change; an empty text without an interval."""
    if change.interval is None:
        return ""
    no_change = 1.0 if isinstance(change, Ratio) else 0.0
    low, high = change.interval
    if low <= no_change <= high:
        return "noise"
    return "better" if (low > no_change) == higher_is_better else "worse"
