"""Our scores beside the paper's: which of them may be compared, and what differs in how they were measured.

Source: arXiv 2412.21140, tables 1 to 4, as `paper_tables.json` has them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from typing import Any

from pydantic import TypeAdapter

from lep.errors import UsageError
from lep.reporting import formatting as rounding
from lep.reporting.i18n import say
from lep.results.evaluation import COLUMNS, MICRO, PREFIX, Asked, Benchmark, Benchmarked, Estimate

_SHOTS = {
    "table1_zero_shot_instruct": 0,
    "table2_few_shot_base": 5,
    "table3_zero_shot_LEP": 0,
    "table4_calibration_of_Conversion_LEP": 0,
}
"""Examples that models of each table were shown."""
_OF_VARIANT = (MICRO, "DaruSum", "DaruCopy-EN", "DaruCopy-RU")
"""What the two variants score in two ways."""


@dataclass(frozen=True)
class Published:
    """One row of the paper."""

    table: str
    """The key of its table."""
    shots: int
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Pair:
    """One column: the paper's score and ours."""

    column: str
    paper: float
    ours: Estimate | None
    """None: not measured."""
    comparable: bool
    """Whether both were measured in the same way, as far as it is known."""

    @property
    def shown(self) -> str:
        """Our score, rounded; with a star when tasks are missing from it."""
        return (
            rounding.NOTHING if self.ours is None else rounding.score(self.ours.score) + "*" * bool(self.ours.missing)
        )

    @property
    def difference(self) -> float | None:
        """Ours less the paper's; none where that would compare different things."""
        return self.ours.score - self.paper if self.ours and self.comparable else None

    @property
    def within(self) -> bool:
        """Whether the paper's score lies in the interval of ours."""
        return self.ours is not None and self.ours.interval[0] <= self.paper <= self.ours.interval[1]


@dataclass(frozen=True)
class Beside:
    """One of our models beside a row of the paper."""

    model: str
    row: str
    table: str
    pairs: tuple[Pair, ...]
    remarks: tuple[str, ...]
    """What differs, in words."""


@cache
def published() -> Mapping[str, Published]:
    """All rows of the paper's four tables, by name."""
    data = json.loads((resources.files("lep.reporting.tables") / "paper_tables.json").read_text(encoding="utf-8"))
    rows: dict[str, Published] = {}
    for key, shots in _SHOTS.items():
        for name, scores in data[key].items():
            if name != "_columns":  # symbols per token stand before the scores in table 2: they are of other text
                found = dict(zip(COLUMNS, scores[-len(COLUMNS) :], strict=True))
                rows[name] = Published(key, shots, found)
    return rows


def beside_paper(benchmark: Benchmark | None, rows: Mapping[str, str]) -> tuple[Beside, ...]:
    """Our models beside the paper's.

    Args:
        benchmark: ours; none: it was not run.
        rows: the paper's row by the name of our model; a model that is called as a row is compared with it unasked.

    Raises:
        UsageError: no model, or no row, has such a name; or rows are named and the benchmark was not run.
    """
    if benchmark is None:
        if rows:
            raise UsageError("report.paper: this evaluation has no benchmark to compare; set evaluate.benchmark")
        return ()
    named = {name: name for name in benchmark.models if name in published()} | dict(rows)
    for model, row in named.items():
        _require(model, benchmark.models, place="report.paper", what="model with scores")
        _require(row, published(), place=f"report.paper.{model}", what="row of the paper's tables")
    return tuple(_beside(model, benchmark.models[model], row, asked=benchmark.settings) for model, row in named.items())


def parse_beside(raw: Sequence[Mapping[str, Any]]) -> tuple[Beside, ...]:
    """The numbers of `report`'s manifest as values."""
    return TypeAdapter(tuple[Beside, ...]).validate_python(raw)


def _require(name: str, known: Mapping[str, object], *, place: str, what: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else f"; there are: {', '.join(known)}"
        raise UsageError(f"{place}: no {what} is called {name!r}{meant}")


def _beside(model: str, ours: Benchmarked, row: str, *, asked: Asked) -> Beside:
    theirs = published()[row]
    unlike = _unlike(ours, theirs, asked=asked)
    touched = {column for columns in unlike.values() for column in columns}
    pairs = (
        Pair(column, score, ours.averages.get(column), comparable=column not in touched)
        for column, score in theirs.scores.items()
    )
    return Beside(model, row, _title(theirs.table), tuple(pairs), tuple(unlike))


def _title(table: str) -> str:
    return {
        "table1_zero_shot_instruct": say("Table 1: instruct models, 0-shot"),
        "table2_few_shot_base": say("Table 2: base models, 5-shot"),
        "table3_zero_shot_LEP": say("Table 3: propagated models, 0-shot"),
        "table4_calibration_of_Conversion_LEP": say("Table 4: calibration, 0-shot"),
    }[table]


def _unlike(ours: Benchmarked, theirs: Published, *, asked: Asked) -> dict[str, Sequence[str]]:
    """What differs in words, and the columns that it makes another measure."""
    found: dict[str, Sequence[str]] = {}
    if asked.variant != "scripts":
        remark = say(
            "The published tables are by the paper's scripts, ours by its text: ROUGE is recall instead of F-measure, "
            "and a paragraph must be copied whole. benchmark.variant=scripts scores as they did."
        )
        found[remark] = _OF_VARIANT
    if asked.limit is not None:
        found[say("Ours was asked only the first {n} items of each task.", n=rounding.count(asked.limit))] = COLUMNS
    if ours.shots != theirs.shots:
        found[say("Ours was asked {n}-shot, the paper's {m}-shot.", n=ours.shots, m=theirs.shots)] = COLUMNS
    if not (ours.chat_template or theirs.shots):
        found[say("Ours was asked without a chat template, the paper's with one.")] = COLUMNS
    if ours.missing:
        lacking = (group for group, score in ours.groups.items() if score.missing)
        tasks = ", ".join(task.removeprefix(PREFIX) for task in ours.missing)
        found[say("* No score of {tasks}: averages that need them are not compared.", tasks=tasks)] = (MICRO, *lacking)
    if asked.data is not None:
        found[say("Our items are from {folder}: whether they are the paper's is not known.", folder=asked.data)] = ()
    return found
