"""Result of `report`: the evaluation's scores next to the paper's."""

from __future__ import annotations

from dataclasses import dataclass

from lep.results.evaluation import ScoreEstimate


@dataclass(frozen=True)
class ScorePair:
    """One column: the paper's score and ours."""

    column: str
    paper_score: float
    estimate: ScoreEstimate | None
    """`None`: not measured."""
    is_comparable: bool
    """Whether both were measured in the same way, as far as it is known."""

    @property
    def difference(self) -> float | None:
        """Our score minus the paper's; `None` where the two measure different things."""
        return self.estimate.score - self.paper_score if self.estimate and self.is_comparable else None

    @property
    def is_within_interval(self) -> bool:
        """Whether the paper's score lies in the interval of ours."""
        return self.estimate is not None and self.estimate.interval[0] <= self.paper_score <= self.estimate.interval[1]


@dataclass(frozen=True)
class PaperComparison:
    """One of our models next to a row of the paper."""

    model: str
    row: str
    table: str
    pairs: tuple[ScorePair, ...]
    remarks: tuple[str, ...]
    """What differs in how they were measured, one sentence each."""


@dataclass(frozen=True)
class ReportResult:
    """Result of `report`."""

    page_bytes: int
    paper_comparisons: tuple[PaperComparison, ...] = ()
