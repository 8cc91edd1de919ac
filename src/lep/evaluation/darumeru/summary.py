"""From the results of a benchmark's documents to what is told: scores, averages and differences, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lep.config.benchmark import DARUMERU
from lep.evaluation.bootstrap import Estimate, estimate, mean
from lep.evaluation.darumeru.aggregation import TASKS


@dataclass(frozen=True)
class Scored:
    """One task of one model."""

    documents: int
    estimate: Estimate


def scored(task: str, results: Sequence[Any], *, seed: int) -> Scored:
    """A task's score from the results of its documents."""
    units = TASKS[task].units(results)
    return Scored(len(results), estimate(units, TASKS[task].score, task=task, seed=seed))


def standing(scores: Mapping[str, Scored], *, refused: Mapping[str, str]) -> dict[str, Any]:
    """What is told of one model: tasks, groups, Micro-Avg, and which of the 17 are missing.

    Args:
        scores: by task.
        refused: tasks that it could not do, and why.
    """
    tasks: dict[str, Any] = {
        task: {"group": TASKS[task].group, **_told(found.estimate, "score"), "items": found.documents}
        for task, found in scores.items()
    }
    tasks |= {task: {"group": TASKS[task].group, "error": reason} for task, reason in refused.items()}
    parts = {task: found.estimate for task, found in scores.items()}
    return {"tasks": tasks, **_averages(parts, "score"), "missing": [task for task in TASKS if task not in scores]}


def compared(scores: Mapping[str, Scored], reference: Mapping[str, Scored]) -> dict[str, Any]:
    """A model's scores less the reference's, where both have one; the draws are the same, document by document."""
    parts = {task: found.estimate - reference[task].estimate for task, found in scores.items() if task in reference}
    return {
        "tasks": {task: _told(part, "difference") for task, part in parts.items()},
        **_averages(parts, "difference"),
    }


def _averages(parts: Mapping[str, Estimate], kind: str) -> dict[str, Any]:
    """Groups and Micro-Avg over the tasks that are there; `missing` names the others."""
    groups = {group: _average(parts, tasks, kind) for group, tasks in DARUMERU.items() if parts.keys() & set(tasks)}
    return {"groups": groups, "micro": _average(parts, list(TASKS), kind) if parts else None}


def _average(parts: Mapping[str, Estimate], tasks: Sequence[str], kind: str) -> dict[str, Any]:
    there = [parts[task] for task in tasks if task in parts]
    return {**_told(mean(there), kind), "missing": [task for task in tasks if task not in parts]}


def _told(found: Estimate, kind: str) -> dict[str, Any]:
    return {kind: found.value, "interval": list(found.interval)}
