"""Verdicts are honest: worse is called worse, and a difference within the interval is called that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lep.reporting.page.headline import headline
from lep.reporting.run_data import gather

from ..made_up import Write, benchmark, evaluated


def test_verdicts_of_the_made_up_run(run: Path) -> None:
    found = {item.measure: (item.words, item.tone) for item in headline(gather(run))}
    assert found == {
        "symbols per token, Russian": ("better", "better"),
        "characters per second": ("better", "better"),
        "bits per byte, Russian": ("worse", "worse"),
        "bits per byte, English": ("worse", "worse"),
        "skill items right": ("worse, within the interval", "neutral"),
        "Darumeru": ("better, within the interval", "neutral"),
    }


@pytest.mark.parametrize(("low", "words"), [(1.5, "better"), (0.9, "better, within the interval")])
def test_speed_is_told_by_the_ratio_that_was_measured_in_turn(write: Write, low: float, words: str) -> None:
    numbers = evaluated()
    ratios = numbers["efficiency"]["ratios"]["conversion"]
    ratios["against"], ratios["texts"]["ru"]["writing"] = "instruct", {"ratio": 1.7, "interval": [low, 2.0]}
    item = _item(write, numbers, "characters per second")
    assert (item.ratio, item.words) == ("1.70\u00a0×", words)


def test_the_benchmark_is_told_by_the_paired_difference_where_there_is_one(write: Write) -> None:
    numbers = evaluated()
    changes = numbers["benchmark"]["differences"]["conversion"]
    changes["against"], changes["micro"] = "instruct", {"difference": 0.09, "interval": [0.01, 0.17]}
    assert _item(write, numbers, "Darumeru").words == "better"


def test_an_average_that_lacks_a_task_is_no_headline(write: Write) -> None:
    numbers = evaluated() | {"benchmark": benchmark(missing="use")}
    assert _item(write, numbers, "Darumeru") is None


def test_a_clear_loss_of_skills_is_worse(write: Write) -> None:
    assert _skills(write, names=("instruct", "swap")).tone == "worse"


def test_what_looks_the_same_is_the_same(write: Write) -> None:
    model = evaluated()["models"]["instruct"]
    folder = write("same", room="evaluate", numbers={"models": {"instruct": model, "twin": model}})
    assert {(item.verdict, item.tone) for item in headline(gather(folder))} == {("the same", "neutral")}


def test_one_model_is_compared_with_nothing(write: Write) -> None:
    folder = write("one", room="evaluate", numbers={"models": {"only": evaluated()["models"]["instruct"]}})
    assert {(item.reference, item.verdict) for item in headline(gather(folder))} == {("", "")}


def _item(write: Write, numbers: dict[str, Any], measure: str) -> Any:
    found = headline(gather(write("some", room="evaluate", numbers=numbers)))
    return next((item for item in found if item.measure == measure), None)


def _skills(write: Write, *, names: tuple[str, ...]) -> Any:
    models = {name: evaluated()["models"][name] for name in names}
    return headline(gather(write("few", room="evaluate", numbers={"models": models})))[-1]
