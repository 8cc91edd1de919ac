from __future__ import annotations

import pytest

from lep.evaluation.darumeru.use_exam import grades, normalized_grade, points

CHOICE = "multiple_choice_independent_options"


@pytest.mark.parametrize(
    ("output", "gold", "kind", "task", "most", "expected"),
    [
        ("1,3", "1,3", CHOICE, "1", 1, 1),
        ("3, 1.", "1,3", CHOICE, "1", 1, 1),  # in any order; a space and a full stop do no harm
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
def test_points(output: str, gold: str, kind: str, task: str, most: int, expected: int) -> None:
    assert points(output, gold, kind=kind, task=task, most=most) == expected


def test_a_whole_variant_is_34_points_and_variants_count_alike() -> None:
    whole = [(1, 1, 1)] * 14 + [(1, 0, 1)] * 14 + [(1, 1, 2), (1, 2, 4)]  # 17 of 34
    assert sum(most for _, _, most in whole) == 34
    assert grades(whole) == [17 / 34]
    assert normalized_grade([*whole, (2, 1, 1)]) == pytest.approx((17 / 34 + 1) / 2)
