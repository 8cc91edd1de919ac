"""The benchmark's tables: models by groups, tasks by models, each score with its interval and what it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from lep.reporting import formatting as rounding
from lep.reporting.i18n import many, say
from lep.reporting.tables.cells import NOTHING, Grid, Line, Marked, marked
from lep.results.efficiency import Change, Value
from lep.results.evaluation import COLUMNS, PREFIX, Benchmark, Benchmarked, Estimate

T = TypeVar("T")


@dataclass(frozen=True)
class Scores:
    """What to show of the benchmark."""

    reference: str
    """The model that the others are compared with; empty when there is only one."""
    groups: Grid
    """Models by averages."""
    tasks: Grid
    """Tasks by models."""
    remarks: tuple[str, ...]
    """What the numbers leave out, a sentence each."""


def scores(benchmark: Benchmark) -> Scores:
    """The benchmark in tables."""
    found = benchmark.models
    columns = tuple(column for column in COLUMNS if any(column in model.averages for model in found.values()))
    tasks = dict.fromkeys(task for model in found.values() for task in model.tasks)
    return Scores(
        next((changes.against for changes in benchmark.differences.values()), ""),
        Grid(say("By group"), columns, tuple(_model(name, columns, benchmark) for name in found)),
        Grid(say("Task by task"), tuple(found), tuple(_task(task, benchmark) for task in tasks)),
        tuple(_remarks(benchmark)),
    )


def _model(name: str, columns: tuple[str, ...], benchmark: Benchmark) -> Line:
    model, changes = benchmark.models[name], benchmark.differences.get(name)
    changed = changes.averages if changes else {}
    cells = tuple(_scored(model.averages.get(column), changed.get(column)) for column in columns)
    template = say("chat template") if model.chat_template else say("no chat template")
    note = say("{n}-shot, {template}", n=model.shots, template=template)
    return Line(name, note, cells)


def _task(task: str, benchmark: Benchmark) -> Line:
    cells, items, group = [], 0, ""
    for name, model in benchmark.models.items():
        found, changes = model.tasks.get(task), benchmark.differences.get(name)
        if found is None:
            cells.append(NOTHING)
            continue
        group, items = found.group, max(items, found.items)
        change = changes.tasks.get(task) if changes else None
        cells.append(Marked(say("no score")) if found.error else _scored(found.estimate, change))
    note = many("{group}, {n} item", "{group}, {n} items", items, group=group)
    return Line(task.removeprefix(PREFIX).replace("_", " "), note, tuple(cells))


def _scored(found: Estimate | None, change: Change | None) -> Marked:
    if found is None:
        return NOTHING
    cell = marked(Value(found.score, found.interval), change, rounding.score)
    return replace(cell, value=f"{cell.value}*") if found.missing else cell


def _remarks(benchmark: Benchmark) -> Iterator[str]:
    asked = benchmark.settings
    if asked.limit is not None:
        yield many(
            "Only the first item of each task was asked: a quick look, not the benchmark.",
            "Only the first {n} items of each task were asked: a quick look, not the benchmark.",
            asked.limit,
        )
    if asked.data is not None:
        yield say("The items were read from {folder}.", folder=asked.data)
    if asked.variant != "paper":
        yield say(
            "Variant “{variant}”: where the paper's text and its scripts differ, scored as the scripts did.",
            variant=asked.variant,
        )
    for missing, names in _alike(benchmark, lambda model: [model.missing] if model.missing else []):
        yield say("* {names}: no score of {tasks}; averages are of the others.", names=names, tasks=_listed(missing))
    for (reason, tasks), names in _alike(benchmark, _failures):
        yield say("{names}: no score of {tasks}: {reason}", names=names, tasks=_listed(tasks), reason=reason)
    if len({model.missing for model in benchmark.models.values()}) > 1:
        yield say("Not all models have a score of the same tasks: a difference is over those that both have.")


def _failures(model: Benchmarked) -> list[tuple[str, tuple[str, ...]]]:
    """Tasks that failed for the same reason, together."""
    reasons = dict.fromkeys(task.error for task in model.tasks.values() if task.error)
    return [(reason, tuple(name for name, task in model.tasks.items() if task.error == reason)) for reason in reasons]


def _alike(benchmark: Benchmark, say: Callable[[Benchmarked], Sequence[T]]) -> list[tuple[T, str]]:
    """What there is to say of models, said once of all that it is true of."""
    found: dict[T, list[str]] = {}
    for name, model in benchmark.models.items():
        for said in say(model):
            found.setdefault(said, []).append(name)
    return [(said, ", ".join(names)) for said, names in found.items()]


def _listed(tasks: Sequence[str]) -> str:
    return ", ".join(task.removeprefix(PREFIX) for task in tasks)
