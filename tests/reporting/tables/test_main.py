"""The main table, which page, terminal and card share."""

from __future__ import annotations

from typing import Any

import pytest

from lep.errors import ArtifactError
from lep.reporting.tables.main import MainTable, build_main_table
from lep.results.stages import parse_evaluation_result

from ..made_up import NAMES, evaluated


def build(result: dict[str, Any]) -> MainTable:
    return build_main_table(parse_evaluation_result(result))


def test_every_model_and_measure_is_a_rounded_string() -> None:
    table = build(evaluated())
    assert [row.model for row in table.rows] == list(NAMES)
    assert [(str(column), column.higher_is_better) for column in table.columns] == [
        ("characters per token ru", True),
        ("characters per token en", True),
        ("bits per byte ru", False),
        ("bits per byte en", False),
        ("characters per second", True),
        ("skills", True),
        ("Darumeru", True),
    ]
    conversion = [str(cell).replace("\u00a0", " ") for cell in table.rows[-1].cells]
    assert conversion == [
        "2.62 (2.00 ×)",
        "4.20",
        "1.716",
        "1.250",
        "485 (2.00 ×)",  # the ratio measured in turns
        "70.4 % (65–76 %, 99 % kept)",
        "0.550 (0.500–0.600)",
    ]


def test_speeds_that_were_not_measured_in_turns_are_divided() -> None:
    table = build(evaluated() | {"efficiency": None})
    assert str(table.rows[-1].cells[4]) == "485 (1.95\u00a0×)"


def test_what_was_not_measured_is_a_dash_and_of_no_model_no_column() -> None:
    measured = {"characters_per_token": {"ru": 1.0}, "bits_per_byte": {"ru": 1.5}}
    table = build({"models": {"a": measured, "b": measured | {"bits_per_byte": {}}}})
    assert [str(column) for column in table.columns] == ["characters per token ru", "bits per byte ru"]
    assert [[str(cell) for cell in row.cells] for row in table.rows] == [["1.00", "1.500"], ["1.00", "–"]]


def test_an_average_that_lacks_a_task_is_not_in_the_table() -> None:
    result = evaluated()
    for scores in result["benchmark"]["models"].values():
        scores["micro_average"] = scores["groups"]["DaruSum"] | {"missing": ["darumeru_use"]}
    assert str(build(result).columns[-1]) == "skills"


def test_the_result_of_another_stage_is_an_error() -> None:
    with pytest.raises(ArtifactError, match=r"result\.models"):
        build({"loss": 1.0})
