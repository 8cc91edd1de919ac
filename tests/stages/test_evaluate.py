"""Evaluation keeps what is measured, model by model, and counts what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.config import Evaluate
from lep.errors import CheckpointError, DataError
from lep.stages import evaluate


def settings(models: dict[str, Path], corpus: Path, **changes: Any) -> Evaluate:
    values = {"models": models, "corpus": corpus, "characters": 400, "dtype": "float32"}
    return Evaluate.model_validate(values | changes)


def test_an_interrupted_evaluation_goes_on_with_the_next_model(
    bases, instructs, corpus, conversations, make_artifact, tmp_path, monkeypatch
) -> None:
    models = {"base": bases["tied"], "instruct": instructs["tied"]}
    wanted = settings(models, corpus, skills=conversations)
    expected = make_artifact(wanted, tmp_path / "unbroken").numbers
    measured: list[str] = []
    original = evaluate._measure

    def measure(path: Path, name: str, *more: Any) -> dict[str, Any]:
        measured.append(name)
        if name == "instruct" and measured.count(name) == 1:
            raise KeyboardInterrupt
        return original(path, name, *more)

    monkeypatch.setattr(evaluate, "_measure", measure)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert make_artifact(wanted, tmp_path / "out").numbers == expected
    assert measured == ["base", "instruct", "instruct"]


def test_the_same_model_under_two_names_has_the_same_numbers(bases, corpus, conversations, run_room, tmp_path) -> None:
    numbers = run_room(
        settings({"a": bases["tied"], "b": bases["tied"]}, corpus, skills=conversations), tmp_path / "out"
    )
    assert numbers["models"]["a"] == numbers["models"]["b"]
    assert numbers["models"]["a"]["speed"] is None and numbers["continuations"] == []


def test_without_items_there_are_no_answers(bases, corpus, run_room, tmp_path) -> None:
    numbers = run_room(settings({"base": bases["tied"]}, corpus), tmp_path / "out")
    assert numbers["models"]["base"]["skills"] is None and numbers["answers"] == []
    assert numbers["models"]["base"]["bits_per_byte"].keys() == {"ru", "en"}


def test_answers_are_kept_whole(bases, corpus, conversations, run_room, tmp_path) -> None:
    run_room(settings({"base": bases["tied"]}, corpus, skills=conversations), tmp_path / "out")
    kept = json.loads((tmp_path / "out" / "models" / "base.json").read_text())["answers"]
    assert len(kept) == 16 and all(answer.keys() == {"text", "tokens", "cut"} for answer in kept)


def test_what_cannot_be_measured_is_named_before_the_work(bases, corpus, make_artifact, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    wanted = settings({"base": bases["tied"]}, corpus, efficiency={"language": "de"})
    with pytest.raises(DataError, match="no text of language 'de'"):
        make_artifact(wanted, tmp_path / "out")
    with pytest.raises(DataError, match=r"no text; expected \.jsonl"):
        make_artifact(settings({"base": bases["tied"]}, bases["tied"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_named(bases, corpus, make_artifact, tmp_path) -> None:
    with pytest.raises(CheckpointError, match="transformers cannot load this model"):
        make_artifact(settings({"base": corpus}, corpus), tmp_path / "out")
