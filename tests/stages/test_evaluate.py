"""Evaluation keeps what is measured, model by model, and counts what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lep.config import Evaluate
from lep.errors import CheckpointError, DataError
from lep.reporting.tables.efficiency import by_text
from lep.reporting.tables.side_effects import grids
from lep.results.stages import parse_evaluation
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


def test_everything_beside_quality_is_paired_with_the_reference_and_kept(
    bases, instructs, corpus, conversations, texts, run_room, tmp_path
) -> None:
    other = tmp_path / "de.txt"
    other.write_text("\n\n".join(texts["en"][900:910]), encoding="utf-8")
    wanted = settings(
        {"base": bases["tied"], "instruct": instructs["tied"]},
        corpus,
        skills=conversations,
        reference="instruct",
        continuations=3,
        efficiency={"language": "ru", "prompts": 2, "prompt_tokens": 8, "new_tokens": 3, "texts": {"code": [other]}},
        side_effects={"texts": {"de": [other]}, "characters": 400},
    )
    found = run_room(wanted, tmp_path / "out")
    speed, effects = found["efficiency"], found["side_effects"]
    assert speed["ratios"].keys() == effects["differences"].keys() == {"base"}
    assert speed["ratios"]["base"]["against"] == effects["differences"]["base"]["against"] == "instruct"
    assert speed["models"]["base"]["texts"].keys() == {"en", "ru", "code", "de"}
    writing = speed["models"]["base"]["texts"]["ru"]["writing"]["value"]
    assert found["models"]["base"]["speed"]["characters_per_second"] == writing
    assert effects["texts"]["de"]["characters"] == 400
    assert effects["models"]["base"]["wrong_script"].keys() == {"skills", "continuations"}
    assert [row["language"] for row in found["continuations"]] == ["en", "en", "ru", "ru", "de", "de"]
    kept = json.loads((tmp_path / "out" / "models" / "base.json").read_text())
    assert len(kept["continuations"]) > 6 and "continuations" not in found["models"]["base"]
    assert (tmp_path / "out/efficiency/base.json").exists() and (tmp_path / "out/side_effects/instruct.json").exists()
    told = parse_evaluation(found)
    assert told.efficiency and told.side_effects
    assert [grid.title for grid in by_text(told.efficiency)] == ["Russian", "English", "German", "code"]
    bits, probes, scripts = grids(told.side_effects)
    assert bits.columns == ("German",) and probes.columns and scripts.columns


def test_what_cannot_be_measured_is_named_before_the_work(
    bases, corpus, conversations, text_files, make_artifact, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    base, empty = {"base": bases["tied"]}, tmp_path / "empty.jsonl"
    empty.touch()
    for error, changes in {
        "no text of language 'de' to measure speed with; there are: en, ru": {"efficiency": {"language": "de"}},
        "more than one text is called 'ru'": {"side_effects": {"texts": {"ru": [text_files["en"]]}}},
        r"empty\.jsonl: no documents; the file is empty": {"side_effects": {"texts": {"de": [empty]}}},
        r"\.jsonl: no documents \(16 × no text in 'text'\)": {"side_effects": {"texts": {"de": [conversations]}}},
    }.items():
        with pytest.raises(DataError, match=error):
            make_artifact(settings(base, corpus, **changes), tmp_path / "out")
    with pytest.raises(ValidationError, match="are measured on models that are folders; there are none"):
        settings({}, corpus, side_effects={})
    with pytest.raises(DataError, match=r"no text; expected \.jsonl"):
        make_artifact(settings({"base": bases["tied"]}, bases["tied"]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_without_weights_is_named(bases, corpus, make_artifact, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json: is not there; expected a Hugging Face model folder"):
        make_artifact(settings({"base": corpus}, corpus), tmp_path / "out")
