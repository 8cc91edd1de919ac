"""The main table and the rounding that page and terminal share."""

from __future__ import annotations

import pytest

from lep.errors import ArtifactError
from lep.reporting import formatting as rounding
from lep.reporting.tables.main import main_table

from ..made_up import NAMES, evaluated


def test_every_model_and_measure_is_a_rounded_string() -> None:
    table = main_table(evaluated())
    assert [row.model for row in table.rows] == list(NAMES)
    assert [str(column) for column in table.columns] == [
        "symbols per token ru",
        "symbols per token en",
        "bits per byte ru",
        "bits per byte en",
        "characters per second",
        "skills",
        "Darumeru",
    ]
    conversion = [str(cell).replace("\u00a0", " ") for cell in table.rows[-1].cells]
    assert conversion == [
        "2.62 (2.00 ×)",
        "4.20",
        "1.716",
        "1.250",
        "485 (2.00 ×)",  # as measured by turns
        "70.4 % (65–76 %, 99 % kept)",
        "0.550 (0.500–0.600)",
    ]


def test_speeds_that_were_not_measured_by_turns_are_divided() -> None:
    table = main_table(evaluated() | {"efficiency": None})
    assert str(table.rows[-1].cells[4]) == "485 (1.95\u00a0×)"


def test_what_was_not_measured_is_a_dash_and_of_no_model_no_column() -> None:
    measured = {"symbols_per_token": {"ru": 1.0}, "bits_per_byte": {"ru": 1.5}}
    table = main_table({"models": {"a": measured, "b": measured | {"bits_per_byte": {}}}})
    assert [str(column) for column in table.columns] == ["symbols per token ru", "bits per byte ru"]
    assert [[str(cell) for cell in row.cells] for row in table.rows] == [["1.00", "1.500"], ["1.00", "–"]]


def test_an_average_that_lacks_a_task_is_not_in_the_table() -> None:
    numbers = evaluated()
    for scores in numbers["benchmark"]["models"].values():
        scores["micro"] = scores["groups"]["DaruSum"] | {"missing": ["darumeru_use"]}
    assert str(main_table(numbers).columns[-1]) == "skills"


def test_numbers_of_something_else_are_an_error() -> None:
    with pytest.raises(ArtifactError, match=r"numbers\.models"):
        main_table({"loss": 1.0})


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (rounding.duration(3.24), "3.2 s"),
        (rounding.duration(59.7), "60 s"),
        (rounding.duration(250), "4 min 10 s"),
        (rounding.duration(3599.6), "1 h 00 min"),
        (rounding.duration(7510), "2 h 05 min"),
        (rounding.memory(1.93e9), "1.9 GB"),
        (rounding.memory(5.1e8), "510 MB"),
        (rounding.magnitude(312_456_789), "312 million"),
        (rounding.magnitude(84_211), "84,211"),
        (rounding.condition(3.2e16), "3.2\u00a0·\u00a010¹⁶"),
        (rounding.condition(91.04), "91"),
        (rounding.decimal(float("nan")), "–"),
        (rounding.percent(None), "–"),
        (rounding.ratio(2.0, 0.0), "–"),
        (rounding.speed(38.26), "38.3"),
    ],
)
def test_rounding(shown: str, expected: str) -> None:
    assert shown == expected
