"""Beside the paper: its tables are whole, only like is compared with like, and what differs is said."""

from __future__ import annotations

from dataclasses import asdict

import pytest

from lep.errors import UsageError
from lep.reporting.tables.paper_comparison import Beside, beside_paper, parse_beside, published
from lep.results.evaluation import COLUMNS, MICRO, Benchmark
from lep.results.stages import parse_evaluation

from ..made_up import benchmark, evaluated

CONVERSION = "LLaMa-3-8B-Instruct/Extended/Conversion"
BASE = "LLaMa-3-8B/Extended"


def found(rows: dict[str, str] | None = None, **settings) -> tuple[Beside, ...]:
    """The made-up scores beside a row of the paper."""
    parsed = parse_evaluation(evaluated() | {"benchmark": benchmark(**settings)}).benchmark
    return beside_paper(parsed, {"conversion": CONVERSION} if rows is None else rows)


def compared(one: Beside) -> list[str]:
    return [pair.column for pair in one.pairs if pair.difference is not None]


def test_every_row_of_the_paper_is_there_and_its_micro_average_is_the_mean_of_17_scores() -> None:
    weights = dict(zip(COLUMNS[1:], (3, 8, 2, 2, 2), strict=True))
    assert len(published()) == 58
    for row in published().values():
        mean = sum(weight * row.scores[group] for group, weight in weights.items()) / 17
        assert row.scores[MICRO] == pytest.approx(mean, abs=1e-3)
    assert {row.table[5]: row.shots for row in published().values()} == {"1": 0, "2": 5, "3": 0, "4": 0}


def test_with_the_settings_of_the_paper_every_column_is_compared() -> None:
    (one,) = found(variant="scripts")
    assert (one.model, one.row, one.remarks) == ("conversion", CONVERSION, ())
    assert compared(one) == list(COLUMNS)
    mmlu = one.pairs[1]
    assert mmlu.difference == pytest.approx(0.55 - 0.556)
    assert mmlu.within
    assert not one.pairs[-1].within  # 0.921 is far above 0.55 ± 0.05


@pytest.mark.parametrize(
    ("settings", "rows", "words", "left"),
    [
        ({"variant": "paper"}, None, "ROUGE is recall", ["DaruMMLU", "DaruMERA"]),
        ({"limit": 1200}, None, "first 1,200 items", []),
        ({}, {"base": BASE}, "asked 0-shot, the paper's 5-shot", []),
        (
            {"missing": "use"},
            None,
            "* No score of use",
            ["DaruMMLU", "DaruSum", "DaruCopy-EN", "DaruCopy-RU"],
        ),
        ({"data": "tiny"}, None, "items are from tiny", list(COLUMNS)),
    ],
)
def test_what_differs_is_said_and_not_compared(settings, rows, words, left) -> None:
    (one,) = found(rows, **({"variant": "scripts"} | settings))
    assert [remark for remark in one.remarks if words in remark] == list(one.remarks)
    assert len(one.remarks) == 1
    assert compared(one) == left


def test_an_average_that_lacks_a_task_has_a_star() -> None:
    (one,) = found(variant="scripts", missing="use")
    assert [pair.shown for pair in one.pairs] == ["–", "0.550", "0.550*", "0.550", "0.550", "0.550"]


def test_without_a_chat_template_nothing_is_compared() -> None:
    numbers = benchmark(variant="scripts")
    numbers["models"]["conversion"]["chat_template"] = False
    (one,) = beside_paper(parse_evaluation(evaluated() | {"benchmark": numbers}).benchmark, {"conversion": CONVERSION})
    assert compared(one) == []
    assert "without a chat template" in one.remarks[0]


def test_a_model_that_is_called_as_a_row_stands_beside_it_unasked() -> None:
    numbers = benchmark()
    numbers["models"]["LLaMa-3-8B-Instruct"] = numbers["models"]["instruct"]
    parsed = parse_evaluation(evaluated() | {"benchmark": numbers}).benchmark
    assert [one.row for one in beside_paper(parsed, {})] == ["LLaMa-3-8B-Instruct"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            {"conversoin": CONVERSION},
            r"report\.paper: no model with scores is called .*; did you mean 'conver",
        ),
        ({"conversion": "LLaMa-3-8B-instruct/extended"}, r"report\.paper\.conversion: .*did you mean 'LLaMa-3-8B"),
    ],
)
def test_unknown_names_are_told_with_what_was_meant(rows: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        found(rows)


def test_rows_without_a_benchmark_are_an_error_and_no_rows_are_none() -> None:
    assert beside_paper(None, {}) == ()
    with pytest.raises(UsageError, match=r"set evaluate\.benchmark"):
        beside_paper(None, {"conversion": CONVERSION})


def test_the_numbers_of_the_manifest_come_back_as_they_were() -> None:
    assert isinstance(parse_evaluation(evaluated()).benchmark, Benchmark)
    assert parse_beside([asdict(one) for one in found()]) == found()
