"""From the results of documents to the score of a task, and from the scores of tasks to groups and Micro-Avg."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import Any

from lep.config.benchmark import DARUMERU_TASK_GROUPS
from lep.errors import DataError
from lep.evaluation.darumeru import task_functions, use_exam


@dataclass(frozen=True)
class TaskScoring:
    """How a task is scored: `aggregate(group_units(results))`."""

    group: str
    aggregate: Callable[[Sequence[Any]], float] = fmean
    """Computes the score from the units, which are resampled for an interval."""
    group_units: Callable[[Sequence[Any]], Sequence[Any]] = list
    """Groups results into the units of resampling: documents; pairs of orders (PARus); variants of the exam (USE)."""
    generative: bool = False
    """Whether the model generates. Such a task needs no log-probabilities and runs on any endpoint."""


_generative_scoring = partial(TaskScoring, generative=True)
_SCORING: Mapping[str, Callable[[str], TaskScoring]] = {
    "darumeru_mmlu_ru": partial(TaskScoring, aggregate=task_functions.category_accuracy),
    "darumeru_mmlu_en": partial(TaskScoring, aggregate=task_functions.category_accuracy),
    "darumeru_multiq": _generative_scoring,
    "darumeru_parus": partial(TaskScoring, group_units=task_functions.score_pairs),
    "darumeru_rcb": partial(TaskScoring, aggregate=task_functions.accuracy_and_macro_f1),
    "darumeru_use": partial(_generative_scoring, group_units=use_exam.variant_grades),
    "darumeru_ruopenbookqa": partial(TaskScoring, aggregate=task_functions.accuracy_and_macro_f1),
    "darumeru_ruworldtree": partial(TaskScoring, aggregate=task_functions.accuracy_and_macro_f1),
    "darumeru_rucola": partial(TaskScoring, aggregate=task_functions.accuracy_and_matthews),
    "darumeru_abstractive": _generative_scoring,
    "darumeru_cp_sent_en": _generative_scoring,
    "darumeru_cp_para_en": _generative_scoring,
    "darumeru_cp_sent_ru": _generative_scoring,
    "darumeru_cp_para_ru": _generative_scoring,
}
"""Tasks that are not the mean over documents of log-probability comparisons."""

TASKS = {
    task: _SCORING.get(task, TaskScoring)(group) for group, tasks in DARUMERU_TASK_GROUPS.items() for task in tasks
}
"""The 17 tasks, under the names that lm-evaluation-harness knows; it computes the same scores."""

GROUPS = tuple(DARUMERU_TASK_GROUPS)
"""In the order of the paper's tables."""


@dataclass(frozen=True)
class BenchmarkAverages:
    """Averages of the benchmark, and the tasks that they leave out."""

    micro_average: float
    """The plain mean of the task scores: of 17, (3 MMLU + 8 MERA + 2 Sum + 2 CopyEN + 2 CopyRU) / 17."""
    groups: dict[str, float]
    """The mean of the tasks of each group that has a score."""
    missing: tuple[str, ...]
    """Tasks without a score. The averages are comparable with other models' only if there are none."""


def compute_averages(scores: Mapping[str, float], *, allow_incomplete: bool = False) -> BenchmarkAverages:
    """Compute the groups and the Micro-Avg from scores that `lm_eval` printed.

    Args:
        scores: By task.
        allow_incomplete: Average the tasks that have a score even if some are missing.

    Returns:
        The averages, and the tasks that are missing.

    Raises:
        DataError: A name is not a task; there is no score; or a task is missing and `allow_incomplete` is false.

    Example:
        >>> averages = compute_averages({"darumeru_rcb": 0.5, "darumeru_use": 0.25}, allow_incomplete=True)
        >>> averages.micro_average, averages.groups, len(averages.missing)
        (0.375, {'DaruMERA': 0.375}, 15)
    """
    if unknown := [name for name in scores if name not in TASKS]:
        raise DataError(f"{', '.join(unknown)}: not a task of Darumeru; its tasks are {', '.join(TASKS)}")
    missing = tuple(name for name in TASKS if name not in scores)
    if not scores or (missing and not allow_incomplete):
        raise DataError(
            f"no score of {', '.join(missing)}: the averages of Darumeru are over all {len(TASKS)} tasks; "
            "run these tasks, or set allow_incomplete"
        )
    by_group = {
        group: [scores[task] for task in tasks if task in scores] for group, tasks in DARUMERU_TASK_GROUPS.items()
    }
    groups = {group: fmean(values) for group, values in by_group.items() if values}
    return BenchmarkAverages(fmean(scores.values()), groups, missing)
