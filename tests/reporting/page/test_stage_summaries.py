"""One sentence for each stage."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.registry import STAGES
from lep.reporting.page.stage_summaries import describe_stage, stage_summaries
from lep.reporting.run_data import load_run_data
from lep.results.stages import ProjectionFit, PropagationResult

from ..made_up import Write, calibrated


def sentences(evaluation: Path) -> dict[str, str]:
    return {summary.stage: summary.sentence for summary in stage_summaries(load_run_data(evaluation))}


def change_result(manifest: Path, **values: Any) -> None:
    raw = json.loads(manifest.read_text(encoding="utf-8"))
    raw["result"] |= values
    manifest.write_text(json.dumps(raw), encoding="utf-8")


def test_training_is_described_by_the_best_step(run: Path) -> None:
    file = run.parent / "pretrain" / "manifest.json"
    curve = json.loads(file.read_text(encoding="utf-8"))["result"]["curve"]
    bits = {point["step"]: f"{point['bits_per_byte']['ru']:.3f}" for point in curve}
    for best in (250, 100):
        change_result(file, best_step=best)
        assert sentences(run)["pretrain"].endswith(f"{bits[0]} → {bits[best]}.")


def test_calibration_is_described(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", stage="calibrate", result=calibrated(), inputs=inputs)
    raw = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    raw["inputs"]["models.conversion"]["path"] = "../calibrate"
    (run / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    assert load_run_data(run).reference_model == "instruct"
    sentence = sentences(run)["calibrate"]
    assert sentence.startswith("1,412 of 1,520 answers of the instruct model kept, 200 copy tasks; loss 2.")


@pytest.mark.parametrize(
    ("fit", "end"),
    [
        (ProjectionFit(residual=0.4, residual_heldout=0.41), "; residual on held-out rows: 41\u00a0% (embed)."),
        (ProjectionFit(residual=0.4), "; residual on fitted rows: 40\u00a0% (embed)."),
        (ProjectionFit(), "1 model: conversion."),
    ],
)
def test_propagation_is_described_by_its_residual(fit: ProjectionFit, end: str) -> None:
    result = PropagationResult(method="conversion", fits={"embed": fit})
    assert describe_stage("propagate", [result], language="ru").endswith(end)


def test_every_stage_that_leads_to_an_evaluation_has_a_sentence(run: Path) -> None:
    assert all(sentences(run).values())
    assert set(sentences(run)) < set(STAGES)


def test_a_stage_without_a_sentence_has_an_empty_one(run: Path) -> None:
    result = load_run_data(run).stages[0].result
    assert describe_stage("dummy", [result], language="ru") == ""
    assert describe_stage("collect", [], language="ru") == ""


def test_the_page_is_about_the_calibrated_model_where_there_is_one(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", stage="calibrate", result=calibrated(), inputs=inputs)
    raw = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    raw["inputs"]["models.calibrated"] = {"path": "../calibrate", "fingerprint": "0123456789abcdef"}
    raw["inputs"]["models.chat"] = raw["inputs"].pop("models.instruct")
    models = raw["result"]["models"]
    raw["result"]["models"] = {"base": models["base"], "chat": models["instruct"], "calibrated": models["swap"]}
    (run / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    run_data = load_run_data(run)
    assert (run_data.result_model, run_data.reference_model) == ("calibrated", "chat")
