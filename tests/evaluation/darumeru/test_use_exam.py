"""Points of the exam are those of its rules."""

from __future__ import annotations

import pytest

from lep.evaluation.darumeru.use_exam import grade_answer, normalized_grade, variant_grades

CHOICE = "multiple_choice_independent_options"


@pytest.mark.parametrize(
    ("output", "gold", "answer_type", "task_number", "max_points", "expected"),
    [
        ("1,3", "1,3", CHOICE, "1", 1, 1),
        ("3, 1.", "1,3", CHOICE, "1", 1, 1),  # in any order; a space and a full stop are ignored
        ("\n1,3\nпотому что", "1,3", CHOICE, "1", 1, 1),  # the first line that is not blank
        ("1", "1,3", CHOICE, "1", 1, 0),
        ("1,3,4", "1,3", CHOICE, "1", 1, 0),
        ("13", "1,3", CHOICE, "1", 1, 0),
        ("", "1,3", CHOICE, "1", 1, 0),
        ("3,4", "3,4", CHOICE, "16", 2, 2),
        ("3", "3,4", CHOICE, "16", 2, 1),  # one is missing
        ("3,1", "3,4", CHOICE, "16", 2, 1),  # one is wrong
        ("3,4,1", "3,4", CHOICE, "16", 2, 1),  # one too many
        ("1,2", "3,4", CHOICE, "16", 2, 0),
        ("2,5,1,3", "2,5,1,3", "matching", "26", 4, 4),
        ("2,5,3,1", "2,5,1,3", "matching", "26", 4, 2),
        ("2,5,1", "2,5,1,3", "matching", "26", 4, 0),
        ("2,5,1,3,4", "2,5,1,3", "matching", "26", 4, 0),
        ("Надел!", "надел,надевал", "text", "5", 1, 1),
        ("надевал", "надел,надевал", "text", "5", 1, 1),
        ("одел", "надел,надевал", "text", "5", 1, 0),
        ("", "надел", "text", "5", 1, 0),
    ],
)
def test_points(output: str, gold: str, answer_type: str, task_number: str, max_points: int, expected: int) -> None:
    points = grade_answer(output, gold, answer_type=answer_type, task_number=task_number, max_points=max_points)
    assert points == expected


def test_a_complete_variant_has_34_points_and_variants_have_equal_weight() -> None:
    complete = [(1, 1, 1)] * 14 + [(1, 0, 1)] * 14 + [(1, 1, 2), (1, 2, 4)]  # 17 of 34
    assert sum(max_points for _, _, max_points in complete) == 34
    assert variant_grades(complete) == [17 / 34]
    assert normalized_grade([*complete, (2, 1, 1)]) == pytest.approx((17 / 34 + 1) / 2)
