"""What a table says: a rounded measure, its interval, and how it compares with the reference's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from lep.reporting import formatting as rounding
from lep.reporting.i18n import say
from lep.results.efficiency import Change, Ratio, Value


@dataclass(frozen=True)
class Marked:
    """A measure, rounded."""

    value: str
    interval: str = ""
    change: str = ""
    """Against the reference; empty for the reference itself."""
    verdict: str = ""
    """better · worse · noise; empty where there is no interval to tell by."""

    def __str__(self) -> str:
        """For a terminal."""
        first = f"{self.value} ({self.interval})" if self.interval else self.value
        return f"{first}\n{self.change} {told(self.verdict)}".rstrip() if self.change else first


@dataclass(frozen=True)
class Line:
    """A model, or a task."""

    name: str
    note: str
    cells: tuple[Marked, ...]


@dataclass(frozen=True)
class Grid:
    """Lines by columns."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[Line, ...]


NOTHING = Marked(rounding.NOTHING)


def marked(
    found: Value | None, change: Change | Ratio | None, show: Callable[[float | None], str], *, higher: bool = True
) -> Marked:
    """A measure as a cell.

    Args:
        found: none: a dash.
        change: against the reference.
        show: rounds it.
        higher: whether more is better.
    """
    if found is None:
        return NOTHING
    interval = f"{show(found.interval[0])}–{show(found.interval[1])}" if found.interval else ""
    if change is None:
        return Marked(show(found.value), interval)
    told = rounding.ratio(change.ratio, 1) if isinstance(change, Ratio) else rounding.signed(change.difference, show)
    return Marked(show(found.value), interval, told, verdict(change, higher=higher))


def told(verdict: str) -> str:
    """A verdict in the reader's language."""
    words = {"better": say("better"), "worse": say("worse"), "noise": say("noise"), "the same": say("the same")}
    return words.get(verdict, "")


def verdict(change: Change | Ratio, *, higher: bool = True) -> str:
    """Noise where the interval holds what would be no difference; empty without an interval."""
    if change.interval is None:
        return ""
    none = 1.0 if isinstance(change, Ratio) else 0.0
    low, high = change.interval
    if low <= none <= high:
        return "noise"
    return "better" if (low > none) == higher else "worse"
