"""The main table: every model by what was measured. The page and the terminal show this same value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lep.reporting import formatting as rounding
from lep.reporting.i18n import say
from lep.results.efficiency import Ratio
from lep.results.evaluation import Benchmarked, Evaluated, Model
from lep.results.stages import parse_evaluation


@dataclass(frozen=True)
class Column:
    """What a column holds; columns of one measure differ by language."""

    measure: str
    language: str
    better: str
    """`higher` or `lower`."""

    def __str__(self) -> str:
        """For a terminal, where a column has one heading."""
        return f"{self.measure} {self.language}".strip()


@dataclass(frozen=True)
class Cell:
    """A rounded number and what it is relative to."""

    value: str
    note: str = ""

    def __str__(self) -> str:
        """For a terminal: both on one line."""
        return f"{self.value} ({self.note})" if self.note else self.value


@dataclass(frozen=True)
class Row:
    """One model."""

    model: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MainTable:
    """Models × measures, rounded."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


def main_table(numbers: Mapping[str, Any] | Evaluated, *, instruct: str | None = None) -> MainTable:
    """The main table of an evaluation.

    What no model was measured for has no column. Symbols per token and speed are also given as multiples of the first
    model's; skills as a share of the instruct model's ("kept").

    Args:
        numbers: `numbers` of the evaluation's manifest.
        instruct: the model whose skills are to be kept; none: the one of this name, if there is one.

    Raises:
        ArtifactError: these are not the numbers of an evaluation.
    """
    found = numbers if isinstance(numbers, Evaluated) else parse_evaluation(numbers)
    kept, (first, base) = found.models.get(instruct or "instruct"), next(iter(found.models.items()))
    scores = found.benchmark.models if found.benchmark else {}
    rows = {
        name: (
            *(_dense(model, base=base, language=language) for language in found.languages()),
            *(Cell(rounding.bits_per_byte(model.bits_per_byte.get(language))) for language in found.languages()),
            _fast(model, base=base, paired=found.times_as_fast(name, against=first)),
            _skilled(model, kept=None if model is kept else kept),
            _scored(scores.get(name)),
        )
        for name, model in found.models.items()
    }
    columns = _columns(found.languages())
    measured = [i for i in range(len(columns)) if any(cells[i].value != rounding.NOTHING for cells in rows.values())]
    return MainTable(
        tuple(columns[i] for i in measured),
        tuple(Row(name, tuple(cells[i] for i in measured)) for name, cells in rows.items()),
    )


def _columns(languages: tuple[str, ...]) -> tuple[Column, ...]:
    return (
        *(Column(say("symbols per token"), language, "higher") for language in languages),
        *(Column(say("bits per byte"), language, "lower") for language in languages),
        Column(say("characters per second"), "", "higher"),
        Column(say("skills"), "", "higher"),
        Column("Darumeru", "", "higher"),
    )


def _dense(model: Model, *, base: Model, language: str) -> Cell:
    value = model.symbols_per_token.get(language)
    times = rounding.ratio(value, base.symbols_per_token.get(language))
    return Cell(rounding.symbols_per_token(value), _telling(times, model, base))


def _fast(model: Model, *, base: Model, paired: Ratio | None) -> Cell:
    """The multiple is that of speeds measured by turns, where they were."""
    if model.speed is None:
        return Cell(rounding.NOTHING)
    whole = base.speed.characters_per_second if base.speed else None
    times = rounding.ratio(paired.ratio, 1) if paired else rounding.ratio(model.speed.characters_per_second, whole)
    return Cell(rounding.speed(model.speed.characters_per_second), _telling(times, model, base))


def _skilled(model: Model, *, kept: Model | None) -> Cell:
    score = (model.skills or {}).get("all")
    if score is None:
        return Cell(rounding.NOTHING)
    note = rounding.interval(score.low, score.high)
    whole = (kept.skills or {}).get("all") if kept else None
    if whole and whole.accuracy:
        note += say(", {share} kept", share=rounding.percent(score.accuracy / whole.accuracy, 0))
    return Cell(rounding.percent(score.accuracy), note)


def _scored(found: Benchmarked | None) -> Cell:
    """The Micro-Avg, if it is that of all tasks."""
    if found is None or found.micro is None or found.micro.missing:
        return Cell(rounding.NOTHING)
    return Cell(rounding.score(found.micro.score), "–".join(map(rounding.score, found.micro.interval)))


def _telling(note: str, model: Model, base: Model) -> str:
    """A multiple, unless it says nothing."""
    return "" if model is base or note in (rounding.NOTHING, rounding.ratio(1, 1)) else note
