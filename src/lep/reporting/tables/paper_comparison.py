"""Our benchmark scores and the paper's: which of them are comparable, and how their measurement differs.

Source: arXiv 2412.21140, tables 1 to 4, in `paper_tables.json`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources

from lep.errors import UsageError
from lep.reporting import formatting
from lep.reporting.i18n import gettext
from lep.results.evaluation import (
    BENCHMARK_COLUMNS,
    MICRO_AVERAGE,
    TASK_PREFIX,
    BenchmarkProtocol,
    BenchmarkResults,
    ModelBenchmarkScores,
)
from lep.results.report import PaperComparison, ScorePair

_SHOTS_BY_TABLE = {
    "table1_zero_shot_instruct": 0,
    "table2_few_shot_base": 5,
    "table3_zero_shot_LEP": 0,
    "table4_calibration_of_Conversion_LEP": 0,
}
"""Few-shot examples in the prompts of each table."""
_VARIANT_COLUMNS = (MICRO_AVERAGE, "DaruSum", "DaruCopy-EN", "DaruCopy-RU")
"""Columns that the variants `paper` and `scripts` score differently."""


@dataclass(frozen=True)
class PaperRow:
    """One row of the paper's tables."""

    table: str
    """Key of the table in `paper_tables.json`."""
    shots: int
    scores: Mapping[str, float]


@cache
def load_paper_rows() -> Mapping[str, PaperRow]:
    """Return all rows of the paper's four tables, by name."""
    data = json.loads((resources.files("lep.reporting.tables") / "paper_tables.json").read_text(encoding="utf-8"))
    rows: dict[str, PaperRow] = {}
    for table, shots in _SHOTS_BY_TABLE.items():
        for name, values in data[table].items():
            if name != "_columns":  # table 2 has symbols per token before the scores, measured on another text
                scores = dict(zip(BENCHMARK_COLUMNS, values[-len(BENCHMARK_COLUMNS) :], strict=True))
                rows[name] = PaperRow(table, shots, scores)
    return rows


def compare_with_paper(benchmark: BenchmarkResults | None, rows: Mapping[str, str]) -> tuple[PaperComparison, ...]:
    """Compare the scores of models with rows of the paper's tables.

    Args:
        benchmark: Our scores; None: the benchmark was not run.
        rows: The paper's row by the name of our model. A model named like a row is always compared with it.

    Returns:
        One comparison for each named model, in the current locale.

    Raises:
        UsageError: A model or a row is unknown; or rows are given and the benchmark was not run.
    """
    if benchmark is None:
        if rows:
            raise UsageError("report.paper_rows: this evaluation has no benchmark to compare; set evaluate.benchmark")
        return ()
    row_names = {name: name for name in benchmark.models if name in load_paper_rows()} | dict(rows)
    for model, row in row_names.items():
        _require_known_name(model, benchmark.models, setting="report.paper_rows", kind="model with scores")
        _require_known_name(
            row, load_paper_rows(), setting=f"report.paper_rows.{model}", kind="row of the paper's tables"
        )
    return tuple(
        _compare_model(model, benchmark.models[model], row, protocol=benchmark.settings)
        for model, row in row_names.items()
    )


def format_pair_score(pair: ScorePair) -> str:
    """Format our score: a dash if it was not measured, a star if tasks are missing from an average."""
    if pair.estimate is None:
        return formatting.NOT_MEASURED
    return formatting.format_score(pair.estimate.score) + "*" * bool(pair.estimate.missing)


def _require_known_name(name: str, known_names: Mapping[str, object], *, setting: str, kind: str) -> None:
    if name not in known_names:
        matches = get_close_matches(name, known_names, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(map(repr, matches))}?" if matches else f"known: {', '.join(known_names)}"
        raise UsageError(f"{setting}: no {kind} is called {name!r}; {hint}")


def _compare_model(
    model: str, scores: ModelBenchmarkScores, row: str, *, protocol: BenchmarkProtocol
) -> PaperComparison:
    paper_row = load_paper_rows()[row]
    differences = _describe_differences(scores, paper_row, protocol=protocol)
    incomparable = {column for columns in differences.values() for column in columns}
    pairs = (
        ScorePair(column, score, scores.averages.get(column), is_comparable=column not in incomparable)
        for column, score in paper_row.scores.items()
    )
    return PaperComparison(model, row, _translate_table_title(paper_row.table), tuple(pairs), tuple(differences))


def _translate_table_title(table: str) -> str:
    return {
        "table1_zero_shot_instruct": gettext("Table 1: instruct models, 0-shot"),
        "table2_few_shot_base": gettext("Table 2: base models, 5-shot"),
        "table3_zero_shot_LEP": gettext("Table 3: propagated models, 0-shot"),
        "table4_calibration_of_Conversion_LEP": gettext("Table 4: calibration, 0-shot"),
    }[table]


def _describe_differences(
    scores: ModelBenchmarkScores, paper_row: PaperRow, *, protocol: BenchmarkProtocol
) -> dict[str, tuple[str, ...]]:
    """Return each difference between the two measurements, with the columns that it makes incomparable."""
    differences: dict[str, tuple[str, ...]] = {}
    if protocol.variant != "scripts":
        differences[
            gettext(
                "The published scores follow the paper's scripts, ours its text: ROUGE is recall instead of F-measure, "
                "and a paragraph must be copied completely. benchmark.variant=scripts scores like the scripts."
            )
        ] = _VARIANT_COLUMNS
    if protocol.limit is not None:
        limit = formatting.format_count(protocol.limit)
        differences[gettext("Ours used only the first {n} items of each task.", n=limit)] = BENCHMARK_COLUMNS
    if scores.num_fewshot != paper_row.shots:
        shots = {"n": scores.num_fewshot, "m": paper_row.shots}
        differences[gettext("Ours is {n}-shot, the paper's {m}-shot.", **shots)] = BENCHMARK_COLUMNS
    if not (scores.chat_template or paper_row.shots):
        differences[gettext("Ours has no chat template, the paper's has one.")] = BENCHMARK_COLUMNS
    if scores.missing:
        groups = (group for group, score in scores.groups.items() if score.missing)
        tasks = ", ".join(task.removeprefix(TASK_PREFIX) for task in scores.missing)
        remark = gettext("* No score for {tasks}: averages that include them are not compared.", tasks=tasks)
        differences[remark] = (MICRO_AVERAGE, *groups)
    if protocol.data is not None:
        remark = gettext("Our items are from {folder}. They may differ from the paper's.", folder=protocol.data)
        differences[remark] = ()
    return differences
