"""Speed and memory: the paired ratio says what is noise, and what has no interval gets no verdict."""

from __future__ import annotations

import pytest

from lep.reporting.tables.cells import verdict
from lep.reporting.tables.efficiency import by_model, by_text, how, reference
from lep.results.efficiency import Change, Efficiency, Ratio
from lep.results.stages import parse_evaluation

from ..made_up import NAMES, efficiency, evaluated


def parsed(numbers) -> Efficiency:
    found = parse_evaluation(evaluated() | {"efficiency": numbers}).efficiency
    assert found
    return found


def test_a_table_for_each_text_the_one_that_was_read_first() -> None:
    found = parsed(efficiency())
    russian, english = by_text(found)
    assert (reference(found), russian.title, english.title) == ("base", "Russian", "English")
    assert [line.name for line in russian.lines] == list(NAMES)
    base, adapted, instruct, *_ = ([str(cell).replace("\u00a0", " ") for cell in line.cells] for line in russian.lines)
    assert base == ["1.31 (1.24–1.38)", "2.36 (2.24–2.48)", "1,048 (996–1,100)", "249 (236–261)", "18 MB", "10,732"]
    assert adapted[2:] == [
        "2,096 (1,991–2,201)\n2.00 × better",
        "498 (473–523)\n2.00 × better",
        "9 MB\n0.50 ×",
        "21,463\n2.00 ×",
    ]
    assert instruct[3] == "249 (236–261)\n1.00 × noise"


def test_what_does_not_depend_on_the_text() -> None:
    weights, context, reading, _ = by_model(parsed(efficiency())).lines[1].cells
    assert (weights.value, weights.change, weights.verdict) == ("270 MB", "1.04\u00a0×", "")
    assert (context.value, context.interval) == ("8,192", "window of 4,096")
    assert (reading.value, reading.verdict) == ("800", "noise")


def test_a_text_that_a_model_was_not_measured_on_is_a_line_of_dashes() -> None:
    numbers = efficiency()
    del numbers["models"]["swap"]["texts"]["en"]
    assert {cell.value for cell in by_text(parsed(numbers))[1].lines[3].cells} == {"–"}


def test_how_speed_was_measured_is_told() -> None:
    assert "on cpu by turns with the reference (rounds: 6, prompts at once: 8)" in how(parsed(efficiency()))


@pytest.mark.parametrize(
    ("change", "higher", "word"),
    [
        (Ratio(1.2, (1.1, 1.3)), True, "better"),
        (Ratio(1.2, (0.9, 1.5)), True, "noise"),
        (Ratio(0.8, (0.7, 0.9)), True, "worse"),
        (Ratio(0.8), True, ""),
        (Change(0.2, (0.1, 0.3)), False, "worse"),
        (Change(-0.2, (-0.3, -0.1)), False, "better"),
        (Change(0.0, (0.0, 0.0)), False, "noise"),
    ],
)
def test_a_verdict_is_by_the_interval(change: Change | Ratio, higher: bool, word: str) -> None:
    assert verdict(change, higher=higher) == word
