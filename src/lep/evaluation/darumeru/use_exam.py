"""The grades of the USE, the Russian state exam in the Russian language, part 1.

Source: the description of the data set in MERA (Fenogenova et al., arXiv 2401.04531), "Grading System" and "Final
Metric". A whole variant gives at most 34 points.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from statistics import fmean

LONGER = "16"
"""The number of the task that gives two points, and one for an answer with one fault."""


def points(output: str, gold: str, *, kind: str, task: str, most: int) -> int:
    """The points for an answer, 0 to `most`.

    Text: one of the expected answers, letters alone, in any case. Numbers, separated by commas: all of them and no
    other, in any order; in task 16, one point where one number is wrong, missing or too many. Matching: one point for
    each number in its place; none when there are more or fewer numbers than asked for.

    Args:
        output: what the model wrote; its first line that is not blank counts.
        gold: the expected answer; of a text, all that are accepted, separated by commas.
        kind: `meta.type` of the data set: text, matching, or one of the multiple choices.
        task: the number of the task in its variant.
        most: the points of a full answer.
    """
    line = next(filter(None, map(str.strip, output.splitlines())), "")
    if kind == "text":
        return most * (_letters(line) in [_letters(one) for one in gold.split(",")])
    given, wanted = _numbers(line), _numbers(gold)
    if kind == "matching":
        same = sum(a == b for a, b in zip(given, wanted, strict=False))
        return min(most, same) if len(given) == len(wanted) else 0
    faults = max(len(set(given) - set(wanted)), len(set(wanted) - set(given)))
    if task == LONGER:
        return max(0, most - faults)
    return most if faults == 0 else 0


def grades(items: Sequence[tuple[int, int, int]]) -> list[float]:
    """The points of each variant by its highest possible number of points: 34 for a whole one.

    Args:
        items: the variant, the points and the most possible points of each answer.
    """
    got: dict[int, list[int]] = {}
    most: dict[int, int] = {}
    for variant, reached, full in items:
        got.setdefault(variant, []).append(reached)
        most[variant] = most.get(variant, 0) + full
    return [sum(reached) / most[variant] for variant, reached in got.items()]


def normalized_grade(items: Sequence[tuple[int, int, int]]) -> float:
    """The mean over variants of points / 34 (the paper, and MERA's grade_norm)."""
    return fmean(grades(items))


def _letters(answer: str) -> str:
    return re.sub(r"[\W\d_]+", "", answer).lower()


def _numbers(answer: str) -> list[str]:
    return [part.strip() for part in answer.strip().rstrip(".").split(",")]
