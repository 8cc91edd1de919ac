"""The walk in sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lep.reporting.page.stage_summaries import story
from lep.reporting.run_data import gather

from ..made_up import Write, calibrated


def sentences(evaluation: Path) -> dict[str, str]:
    return {chapter.room: chapter.sentence for chapter in story(gather(evaluation))}


def changed(manifest: Path, **numbers: Any) -> None:
    raw = json.loads(manifest.read_text(encoding="utf-8"))
    raw["numbers"] |= numbers
    manifest.write_text(json.dumps(raw), encoding="utf-8")


def test_training_is_told_by_the_step_that_the_result_is_of(run: Path) -> None:
    file = run.parent / "pretrain" / "manifest.json"
    curve = json.loads(file.read_text(encoding="utf-8"))["numbers"]["curve"]
    told = {step: f"{bits['ru']:.3f}" for step, bits in ((row["step"], row["bits_per_byte"]) for row in curve)}
    for best in (250, 100):
        changed(file, best_step=best)
        assert sentences(run)["pretrain"].endswith(f"{told[0]} → {told[best]}.")


def test_calibration_is_told(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", room="calibrate", numbers=calibrated(), inputs=inputs)
    raw = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    raw["inputs"]["models.conversion"]["path"] = "../calibrate"
    (run / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    facts = gather(run)
    assert facts.reference == "instruct"
    told = sentences(run)["calibrate"]
    assert told.startswith("1,412 of the instruct model's own 1,520 answers kept, 200 copy tasks; loss 2.")


def test_the_page_is_about_the_calibrated_model_where_there_is_one(run: Path, write: Write) -> None:
    inputs = {"model": "run/propagate/conversion", "teacher": "run/tune"}
    write("run/calibrate", room="calibrate", numbers=calibrated(), inputs=inputs)
    raw = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    raw["inputs"]["models.calibrated"] = {"path": "../calibrate", "fingerprint": "0123456789abcdef"}
    raw["inputs"]["models.chat"] = raw["inputs"].pop("models.instruct")
    models = raw["numbers"]["models"]
    raw["numbers"]["models"] = {"base": models["base"], "chat": models["instruct"], "calibrated": models["swap"]}
    (run / "manifest.json").write_text(json.dumps(raw), encoding="utf-8")
    facts = gather(run)
    assert (facts.result, facts.reference) == ("calibrated", "chat")
