"""Summarize the results of a benchmark's documents: scores, averages and differences, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lep.config.benchmark import DARUMERU_TASK_GROUPS
from lep.evaluation.bootstrap import BootstrapEstimate, average_estimates, bootstrap
from lep.evaluation.darumeru.aggregation import TASKS
from lep.results.evaluation import MICRO_AVERAGE, ModelBenchmarkScores, ScoreDifferences, ScoreEstimate, TaskScore
from lep.results.statistics import Difference

_TASKS_BY_AVERAGE = {MICRO_AVERAGE: tuple(TASKS), **DARUMERU_TASK_GROUPS}


@dataclass(frozen=True)
class TaskEstimate:
    """One task of one model."""

    num_documents: int
    estimate: BootstrapEstimate


def estimate_task(task: str, results: Sequence[Any], *, seed: int) -> TaskEstimate:
    """Estimate the score of a task.

    Args:
        task: One of `TASKS`.
        results: The results of its documents, as `lep.evaluation.darumeru.task_functions` returns them.
        seed: Of the resampling.

    Returns:
        The score with its bootstrap distribution.
    """
    units = TASKS[task].group_units(results)
    return TaskEstimate(len(results), bootstrap(units, TASKS[task].aggregate, name=task, seed=seed))


def summarize_scores(
    scores: Mapping[str, TaskEstimate], *, num_fewshot: int, chat_template: bool, unsupported: Mapping[str, str]
) -> ModelBenchmarkScores:
    """Summarize one model: tasks, groups, Micro-Avg, and which of the 17 tasks are missing.

    Args:
        scores: By task.
        num_fewshot: Examples that the model was shown.
        chat_template: Whether its chat template was used.
        unsupported: Tasks that the model cannot do, with the reason.

    Returns:
        The scores with their intervals.
    """
    averages = {
        name: ScoreEstimate(average.value, average.interval, _find_missing(_TASKS_BY_AVERAGE[name], scores))
        for name, average in _compute_averages({task: score.estimate for task, score in scores.items()}).items()
    }
    tasks = {
        task: TaskScore(TASKS[task].group, score.estimate.value, score.estimate.interval, score.num_documents)
        for task, score in scores.items()
    }
    return ModelBenchmarkScores(
        num_fewshot=num_fewshot,
        chat_template=chat_template,
        tasks=tasks | {task: TaskScore(TASKS[task].group, error=reason) for task, reason in unsupported.items()},
        micro_average=averages.pop(MICRO_AVERAGE, None),
        groups=averages,
        missing=_find_missing(TASKS, scores),
    )


def score_differences(
    scores: Mapping[str, TaskEstimate], reference_scores: Mapping[str, TaskEstimate], *, reference: str
) -> ScoreDifferences:
    """Subtract the reference's scores where both models have one, on the same resamples of the documents.

    Args:
        scores: Of the model, by task.
        reference_scores: Of the reference, by task.
        reference: Name of the reference.

    Returns:
        The differences with their intervals.
    """
    estimates = {
        task: score.estimate - reference_scores[task].estimate
        for task, score in scores.items()
        if task in reference_scores
    }
    averages = {
        name: Difference(average.value, average.interval, _find_missing(_TASKS_BY_AVERAGE[name], estimates))
        for name, average in _compute_averages(estimates).items()
    }
    return ScoreDifferences(
        reference=reference,
        tasks={task: Difference(estimate.value, estimate.interval) for task, estimate in estimates.items()},
        micro_average=averages.pop(MICRO_AVERAGE, None),
        groups=averages,
    )


def _compute_averages(estimates: Mapping[str, BootstrapEstimate]) -> dict[str, BootstrapEstimate]:
    """Average the tasks that have a score, for the Micro-Avg and each group with at least one."""
    return {
        name: average_estimates([estimates[task] for task in tasks if task in estimates])
        for name, tasks in _TASKS_BY_AVERAGE.items()
        if estimates.keys() & set(tasks)
    }


def _find_missing(tasks: Sequence[str] | Mapping[str, Any], scores: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(task for task in tasks if task not in scores)
