"""Verdicts of the headline: worse is called worse, and a difference within the interval is marked as such."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lep.reporting.page.headline import build_headline
from lep.reporting.run_data import load_run_data

from ..made_up import Write, benchmark, evaluated


def test_verdicts_of_the_made_up_run(run: Path) -> None:
    verdicts = {item.measure: (item.verdict_text, item.severity) for item in build_headline(load_run_data(run))}
    assert verdicts == {
        "characters per token, Russian": ("better", "better"),
        "characters per second": ("better", "better"),
        "bits per byte, Russian": ("worse", "worse"),
        "bits per byte, English": ("worse", "worse"),
        "skill items correct": ("worse, within the interval", "neutral"),
        "Darumeru": ("better, within the interval", "neutral"),
    }


@pytest.mark.parametrize(("low", "verdict"), [(1.5, "better"), (0.9, "better, within the interval")])
def test_speed_is_compared_by_the_paired_ratio(write: Write, low: float, verdict: str) -> None:
    result = evaluated()
    ratios = result["efficiency"]["ratios"]["conversion"]
    ratios["reference"], ratios["texts"]["ru"]["decode"] = "instruct", {"ratio": 1.7, "interval": [low, 2.0]}
    item = _find_comparison(write, result, "characters per second")
    assert (item.ratio, item.verdict_text) == ("1.70\u00a0×", verdict)


def test_the_benchmark_is_compared_by_the_paired_difference(write: Write) -> None:
    result = evaluated()
    changes = result["benchmark"]["differences"]["conversion"]
    changes["reference"], changes["micro_average"] = "instruct", {"difference": 0.09, "interval": [0.01, 0.17]}
    assert _find_comparison(write, result, "Darumeru").verdict_text == "better"


def test_an_average_with_a_missing_task_is_not_compared(write: Write) -> None:
    result = evaluated() | {"benchmark": benchmark(missing="use")}
    assert _find_comparison(write, result, "Darumeru") is None


def test_a_clear_loss_of_skills_is_worse(write: Write) -> None:
    assert _compare_skills(write, names=("instruct", "swap")).severity == "worse"


def test_values_that_are_equal_after_rounding_are_the_same(write: Write) -> None:
    model = evaluated()["models"]["instruct"]
    folder = write("same", stage="evaluate", result={"models": {"instruct": model, "twin": model}})
    assert {(item.verdict, item.severity) for item in build_headline(load_run_data(folder))} == {
        ("the same", "neutral")
    }


def test_a_single_model_has_no_reference(write: Write) -> None:
    folder = write("one", stage="evaluate", result={"models": {"only": evaluated()["models"]["instruct"]}})
    assert {(item.reference, item.verdict) for item in build_headline(load_run_data(folder))} == {("", "")}


def _find_comparison(write: Write, result: dict[str, Any], measure: str) -> Any:
    comparisons = build_headline(load_run_data(write("some", stage="evaluate", result=result)))
    return next((item for item in comparisons if item.measure == measure), None)


def _compare_skills(write: Write, *, names: tuple[str, ...]) -> Any:
    models = {name: evaluated()["models"][name] for name in names}
    return build_headline(load_run_data(write("few", stage="evaluate", result={"models": models})))[-1]
