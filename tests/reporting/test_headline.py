"""Verdicts are honest: worse is called worse, and a difference within the interval is called that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lep.reporting.facts import gather
from lep.reporting.headline import headline

from .made_up import Write, evaluated


def test_verdicts_of_the_made_up_run(run: Path) -> None:
    found = {item.measure: (item.words, item.tone) for item in headline(gather(run))}
    assert found == {
        "symbols per token, Russian": ("better", "better"),
        "characters per second": ("better", "better"),
        "bits per byte, Russian": ("worse", "worse"),
        "bits per byte, English": ("worse", "worse"),
        "skill items right": ("worse, within the interval", "neutral"),
    }


def test_a_clear_loss_of_skills_is_worse(write: Write) -> None:
    assert _skills(write, names=("instruct", "swap")).tone == "worse"


def test_what_looks_the_same_is_the_same(write: Write) -> None:
    model = evaluated()["models"]["instruct"]
    folder = write("same", room="evaluate", numbers={"models": {"instruct": model, "twin": model}})
    assert {(item.verdict, item.tone) for item in headline(gather(folder))} == {("the same", "neutral")}


def test_one_model_is_compared_with_nothing(write: Write) -> None:
    folder = write("one", room="evaluate", numbers={"models": {"only": evaluated()["models"]["instruct"]}})
    assert {(item.reference, item.verdict) for item in headline(gather(folder))} == {("", "")}


def _skills(write: Write, *, names: tuple[str, ...]) -> Any:
    models = {name: evaluated()["models"][name] for name in names}
    return headline(gather(write("few", room="evaluate", numbers={"models": models})))[-1]
