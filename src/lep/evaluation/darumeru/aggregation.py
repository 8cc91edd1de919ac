"""From the scores of the tasks to the groups and the Micro-Avg."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from lep.config.benchmark import DARUMERU
from lep.errors import DataError
from lep.evaluation.darumeru import task_functions as functions
from lep.evaluation.darumeru import use_exam as exam


@dataclass(frozen=True)
class Task:
    """How the results of a task's documents become its score: score(units(results))."""

    group: str
    score: Callable[[Sequence[Any]], float] = fmean
    """Of the units; those may be drawn again with replacement, for an interval."""
    units: Callable[[Sequence[Any]], Sequence[Any]] = list
    """What is drawn as one: a document; of PARus a pair of orders, of USE a variant of the exam."""
    generative: bool = False
    """Whether the model writes: such a task needs no log-probabilities, and runs on any endpoint."""


_WRITTEN: Mapping[str, Any] = {"generative": True}
_HOW: Mapping[str, Mapping[str, Any]] = {
    "darumeru_mmlu_ru": {"score": functions.by_category},
    "darumeru_mmlu_en": {"score": functions.by_category},
    "darumeru_multiq": _WRITTEN,
    "darumeru_parus": {"units": functions.pairs},
    "darumeru_rcb": {"score": functions.accuracy_and_macro_f1},
    "darumeru_use": {"units": exam.grades, **_WRITTEN},
    "darumeru_ruopenbookqa": {"score": functions.accuracy_and_macro_f1},
    "darumeru_ruworldtree": {"score": functions.accuracy_and_macro_f1},
    "darumeru_rucola": {"score": functions.accuracy_and_matthews},
    "darumeru_abstractive": _WRITTEN,
    "darumeru_cp_sent_en": _WRITTEN,
    "darumeru_cp_para_en": _WRITTEN,
    "darumeru_cp_sent_ru": _WRITTEN,
    "darumeru_cp_para_ru": _WRITTEN,
}
"""Where a task is more than the mean of what its documents score without writing."""

TASKS = {task: Task(group, **_HOW.get(task, {})) for group, tasks in DARUMERU.items() for task in tasks}
"""The 17 tasks; the harness knows them by these names, and finds the same scores."""

GROUPS = tuple(DARUMERU)
"""In the order of the paper's tables."""


@dataclass(frozen=True)
class Summary:
    """The benchmark in six numbers, and what they leave out."""

    micro: float
    """The plain mean of the task scores: of 17, (3 MMLU + 8 MERA + 2 Sum + 2 CopyEN + 2 CopyRU) / 17."""
    groups: dict[str, float]
    """The mean of the tasks of each group; a group without a score is not there."""
    missing: tuple[str, ...]
    """Tasks that have no score: the averages are not those of the benchmark unless this is empty."""


def summarize(scores: Mapping[str, float], *, incomplete: bool = False) -> Summary:
    """The groups and the Micro-Avg from the scores of the tasks.

    Args:
        scores: by task.
        incomplete: average what is there, and say what is missing.

    Raises:
        DataError: a name is no task; or a task is missing and `incomplete` is false; or there is no score at all.
    """
    unknown = [name for name in scores if name not in TASKS]
    if unknown:
        raise DataError(f"{', '.join(unknown)}: no task of Darumeru; they are {', '.join(TASKS)}")
    missing = tuple(name for name in TASKS if name not in scores)
    if not scores or (missing and not incomplete):
        raise DataError(
            f"no score of {', '.join(missing)}: the averages of Darumeru are over all {len(TASKS)} tasks; "
            "run these, or ask for incomplete averages"
        )
    by_group = {
        group: [scores[n] for n, task in TASKS.items() if task.group == group and n in scores] for group in GROUPS
    }
    groups = {group: fmean(values) for group, values in by_group.items() if values}
    return Summary(fmean(scores.values()), groups, missing)
