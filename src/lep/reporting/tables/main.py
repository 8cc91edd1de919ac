"""The main table of an evaluation: models × measures. The page, the terminal and the model card show the same one."""

from __future__ import annotations

from dataclasses import dataclass

from lep.reporting import formatting
from lep.reporting.i18n import gettext
from lep.results.evaluation import EvaluationResult, ModelBenchmarkScores, ModelEvaluation
from lep.results.statistics import Ratio


@dataclass(frozen=True)
class MainTableColumn:
    """A column of the main table; columns of one measure differ by language."""

    measure: str
    language: str
    higher_is_better: bool

    def __str__(self) -> str:
        """Format the heading in one line, for a terminal."""
        return f"{self.measure} {self.language}".strip()


@dataclass(frozen=True)
class MainTableCell:
    """A rounded number and a note: its multiple of a reference, or its interval."""

    value: str
    note: str = ""

    def __str__(self) -> str:
        """Format number and note in one line, for a terminal."""
        return f"{self.value} ({self.note})" if self.note else self.value


@dataclass(frozen=True)
class MainTableRow:
    """One model."""

    model: str
    cells: tuple[MainTableCell, ...]


@dataclass(frozen=True)
class MainTable:
    """Models × measures, rounded."""

    columns: tuple[MainTableColumn, ...]
    rows: tuple[MainTableRow, ...]


def build_main_table(evaluation: EvaluationResult, *, instruct: str | None = None) -> MainTable:
    """Build the main table of an evaluation.

    A measure that no model has gets no column. Characters per token and speed are also given as multiples of the first
    model's, skills as a share of the instruct model's ("kept").

    Args:
        evaluation: Result of `evaluate`.
        instruct: Name of the model that skills are compared with; None: the model called `instruct`, if there is one.

    Returns:
        The table, formatted in the current locale.
    """
    instruct_model = evaluation.models.get(instruct or "instruct")
    first, base = next(iter(evaluation.models.items()))
    languages = evaluation.languages()
    benchmark = evaluation.benchmark.models if evaluation.benchmark else {}
    rows = {
        name: (
            *(_characters_per_token_cell(model, base=base, language=language) for language in languages),
            *(MainTableCell(formatting.format_bits_per_byte(model.bits_per_byte.get(code))) for code in languages),
            _speed_cell(model, base=base, paired_ratio=evaluation.compute_speedup(name, reference=first)),
            _skill_cell(model, instruct=None if model is instruct_model else instruct_model),
            _benchmark_cell(benchmark.get(name)),
        )
        for name, model in evaluation.models.items()
    }
    columns = _build_columns(languages)
    measured = [
        i for i in range(len(columns)) if any(cells[i].value != formatting.NOT_MEASURED for cells in rows.values())
    ]
    return MainTable(
        tuple(columns[i] for i in measured),
        tuple(MainTableRow(name, tuple(cells[i] for i in measured)) for name, cells in rows.items()),
    )


def _build_columns(languages: tuple[str, ...]) -> tuple[MainTableColumn, ...]:
    characters_per_token, bits_per_byte = gettext("characters per token"), gettext("bits per byte")
    return (
        *(MainTableColumn(characters_per_token, language, higher_is_better=True) for language in languages),
        *(MainTableColumn(bits_per_byte, language, higher_is_better=False) for language in languages),
        MainTableColumn(gettext("characters per second"), "", higher_is_better=True),
        MainTableColumn(gettext("skills"), "", higher_is_better=True),
        MainTableColumn("Darumeru", "", higher_is_better=True),
    )


def _characters_per_token_cell(model: ModelEvaluation, *, base: ModelEvaluation, language: str) -> MainTableCell:
    value = model.characters_per_token.get(language)
    ratio = formatting.format_ratio(value, base.characters_per_token.get(language))
    return MainTableCell(formatting.format_characters_per_token(value), _ratio_note(ratio, model, base))


def _speed_cell(model: ModelEvaluation, *, base: ModelEvaluation, paired_ratio: Ratio | None) -> MainTableCell:
    """Format the speed; the multiple is the ratio that was measured in turns, where there is one."""
    if model.speed is None:
        return MainTableCell(formatting.NOT_MEASURED)
    speed, base_speed = model.speed.characters_per_second, base.speed.characters_per_second if base.speed else None
    ratio = formatting.format_ratio(*((paired_ratio.ratio, 1) if paired_ratio else (speed, base_speed)))
    return MainTableCell(formatting.format_rate(speed), _ratio_note(ratio, model, base))


def _skill_cell(model: ModelEvaluation, *, instruct: ModelEvaluation | None) -> MainTableCell:
    score = (model.skills or {}).get("all")
    if score is None:
        return MainTableCell(formatting.NOT_MEASURED)
    note = formatting.format_percent_interval(score.low, score.high)
    instruct_score = (instruct.skills or {}).get("all") if instruct else None
    if instruct_score and instruct_score.accuracy:
        share = formatting.format_percent(score.accuracy / instruct_score.accuracy, 0)
        note += gettext(", {share} kept", share=share)
    return MainTableCell(formatting.format_percent(score.accuracy), note)


def _benchmark_cell(scores: ModelBenchmarkScores | None) -> MainTableCell:
    """Format the Micro-Avg, if no task is missing from it."""
    if scores is None or scores.micro_average is None or scores.micro_average.missing:
        return MainTableCell(formatting.NOT_MEASURED)
    average = scores.micro_average
    return MainTableCell(
        formatting.format_score(average.score), formatting.format_interval(average.interval, formatting.format_score)
    )


def _ratio_note(ratio: str, model: ModelEvaluation, base: ModelEvaluation) -> str:
    """Return the multiple, except for the base itself and where it is 1."""
    return "" if model is base or ratio in (formatting.NOT_MEASURED, formatting.format_ratio(1, 1)) else ratio
