"""Grade the USE, the Russian state exam in the Russian language, part 1.

Source: the description of the data set in MERA (Fenogenova et al., arXiv 2401.04531), "Grading System" and "Final
Metric". A complete variant gives at most 34 points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

TWO_POINT_TASK = "16"
"""The task that gives two points, and one point for an answer with one error."""


def grade_answer(output: str, gold: str, *, answer_type: str, task_number: str, max_points: int) -> int:
    """Return the points for an answer, from 0 to `max_points`.

    A text must equal one of the accepted answers; only letters count, in any case. Multiple choices are numbers
    separated by commas: all of the expected ones and no other, in any order; in task 16, one point if one number is
    wrong, missing or too many. Matching gives one point for each number at its place, and none if their count is wrong.

    Args:
        output: What the model generated; the first line that is not blank counts.
        gold: The expected answer; for a text, all accepted ones, separated by commas.
        answer_type: `meta.type` of the data set: text, matching, or a kind of multiple choice.
        task_number: The task in its variant.
        max_points: The points of a right answer.

    Returns:
        The points.

    Example:
        >>> grade_answer("2,5,3,1", "2,5,1,3", answer_type="matching", task_number="26", max_points=4)
        2
    """
    line = next(filter(None, map(str.strip, output.splitlines())), "")
    if answer_type == "text":
        return max_points * (_keep_letters(line) in [_keep_letters(answer) for answer in gold.split(",")])
    answer, expected = _parse_numbers(line), _parse_numbers(gold)
    if answer_type == "matching":
        matches = sum(a == b for a, b in zip(answer, expected, strict=False))
        return min(max_points, matches) if len(answer) == len(expected) else 0
    errors = max(len(set(answer) - set(expected)), len(set(expected) - set(answer)))
    if task_number == TWO_POINT_TASK:
        return max(0, max_points - errors)
    return max_points if errors == 0 else 0


def variant_grades(items: Sequence[tuple[int, int, int]]) -> list[float]:
    """Return the points of each variant divided by its maximum, which is 34 for a complete one.

    Args:
        items: The variant, the points and the maximum of points of each answer.

    Returns:
        A number from 0 to 1 for each variant.
    """
    points: dict[int, int] = {}
    maximum: dict[int, int] = {}
    for variant, answer_points, max_points in items:
        points[variant] = points.get(variant, 0) + answer_points
        maximum[variant] = maximum.get(variant, 0) + max_points
    return [points[variant] / maximum[variant] for variant in points]


def normalized_grade(items: Sequence[tuple[int, int, int]]) -> float:
    """Return the mean over variants of points / 34 (the paper, and MERA's grade_norm)."""
    return fmean(variant_grades(items))


def _keep_letters(answer: str) -> str:
    return re.sub(r"[\W\d_]+", "", answer).lower()


def _parse_numbers(answer: str) -> list[str]:
    return [part.strip() for part in answer.strip().rstrip(".").split(",")]
