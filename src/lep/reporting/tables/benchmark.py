"""Tables of the benchmark: models by groups and tasks by models, each score with its interval and verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from lep.reporting import formatting
from lep.reporting.i18n import gettext, ngettext
from lep.reporting.tables.cells import EMPTY_CELL, Cell, ComparisonTable, Row, build_cell
from lep.results.evaluation import BENCHMARK_COLUMNS, TASK_PREFIX, BenchmarkResults, ModelBenchmarkScores, ScoreEstimate
from lep.results.statistics import Difference, MeasuredValue

T = TypeVar("T")


@dataclass(frozen=True)
class BenchmarkTables:
    """The tables of the benchmark and their remarks."""

    reference: str
    """The model that the others are compared with; empty if there is only one."""
    group_table: ComparisonTable
    """Models × averages."""
    task_table: ComparisonTable
    """Tasks × models."""
    remarks: tuple[str, ...]
    """Restrictions of the numbers, one sentence each."""


def build_benchmark_tables(benchmark: BenchmarkResults) -> BenchmarkTables:
    """Build the tables of the benchmark."""
    models = benchmark.models
    columns = tuple(
        column for column in BENCHMARK_COLUMNS if any(column in model.averages for model in models.values())
    )
    tasks = dict.fromkeys(task for model in models.values() for task in model.tasks)
    group_rows = tuple(_build_model_row(name, columns, benchmark) for name in models)
    task_rows = tuple(_build_task_row(task, benchmark) for task in tasks)
    return BenchmarkTables(
        next((differences.reference for differences in benchmark.differences.values()), ""),
        ComparisonTable(gettext("By group"), columns, group_rows),
        ComparisonTable(gettext("By task"), tuple(models), task_rows),
        tuple(_write_remarks(benchmark)),
    )


def _build_model_row(name: str, columns: tuple[str, ...], benchmark: BenchmarkResults) -> Row:
    model, differences = benchmark.models[name], benchmark.differences.get(name)
    changes = differences.averages if differences else {}
    cells = tuple(_build_score_cell(model.averages.get(column), changes.get(column)) for column in columns)
    template = gettext("chat template") if model.chat_template else gettext("no chat template")
    return Row(name, gettext("{n}-shot, {template}", n=model.num_fewshot, template=template), cells)


def _build_task_row(task: str, benchmark: BenchmarkResults) -> Row:
    cells, items, group = [], 0, ""
    for name, model in benchmark.models.items():
        score, differences = model.tasks.get(task), benchmark.differences.get(name)
        if score is None:
            cells.append(EMPTY_CELL)
            continue
        group, items = score.group, max(items, score.items)
        change = differences.tasks.get(task) if differences else None
        cells.append(Cell(gettext("no score")) if score.error else _build_score_cell(score.estimate, change))
    note = ngettext("{group}, {n} item", "{group}, {n} items", items, group=group)
    return Row(task.removeprefix(TASK_PREFIX).replace("_", " "), note, tuple(cells))


def _build_score_cell(estimate: ScoreEstimate | None, change: Difference | None) -> Cell:
    if estimate is None:
        return EMPTY_CELL
    cell = build_cell(MeasuredValue(estimate.score, estimate.interval), change, formatting.format_score)
    return replace(cell, value=f"{cell.value}*") if estimate.missing else cell


def _write_remarks(benchmark: BenchmarkResults) -> Iterator[str]:
    protocol = benchmark.settings
    if protocol.limit is not None:
        yield ngettext(
            "Only the first item of each task was used. This is a quick check, not the full benchmark.",
            "Only the first {n} items of each task were used. This is a quick check, not the full benchmark.",
            protocol.limit,
        )
    if protocol.data is not None:
        yield gettext("The items were read from {folder}.", folder=protocol.data)
    if protocol.variant != "paper":
        yield gettext(
            "Variant “{variant}”: where the paper's text and scripts differ, scores follow the scripts.",
            variant=protocol.variant,
        )
    for missing, names in _group_models(benchmark, lambda model: [model.missing] if model.missing else []):
        yield gettext(
            "* {names}: no score for {tasks}; averages are over the other tasks.",
            names=names,
            tasks=_join_task_names(missing),
        )
    for (reason, tasks), names in _group_models(benchmark, _group_failures):
        yield gettext(
            "{names}: no score for {tasks}: {reason}", names=names, tasks=_join_task_names(tasks), reason=reason
        )
    if len({model.missing for model in benchmark.models.values()}) > 1:
        yield gettext("Not all models have scores for the same tasks. Differences are over the tasks that both have.")


def _group_failures(model: ModelBenchmarkScores) -> list[tuple[str, tuple[str, ...]]]:
    """Return each reason of a failure with its tasks."""
    reasons = dict.fromkeys(task.error for task in model.tasks.values() if task.error)
    return [(reason, tuple(name for name, task in model.tasks.items() if task.error == reason)) for reason in reasons]


def _group_models(
    benchmark: BenchmarkResults, list_remarks: Callable[[ModelBenchmarkScores], Sequence[T]]
) -> list[tuple[T, str]]:
    """Return each remark with the names of all models that it holds for."""
    names_by_remark: dict[T, list[str]] = {}
    for name, model in benchmark.models.items():
        for remark in list_remarks(model):
            names_by_remark.setdefault(remark, []).append(name)
    return [(remark, ", ".join(names)) for remark, names in names_by_remark.items()]


def _join_task_names(tasks: Sequence[str]) -> str:
    return ", ".join(task.removeprefix(TASK_PREFIX) for task in tasks)
