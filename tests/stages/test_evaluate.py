"""Evaluation keeps each measurement, model by model, and resumes with what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lep.config import EvaluateSettings
from lep.errors import CheckpointError, DataError
from lep.reporting.tables.efficiency import build_text_tables
from lep.reporting.tables.side_effects import build_side_effect_tables
from lep.results.evaluation import GenerationSpeed
from lep.results.stages import parse_evaluation_result
from lep.stages import evaluate


def make_settings(models: dict[str, Path], corpus: Path, **changes: Any) -> EvaluateSettings:
    values = {"models": models, "corpus": corpus, "heldout_characters": 400, "dtype": "float32"}
    return EvaluateSettings.model_validate(values | changes)


def test_an_interrupted_evaluation_resumes_with_the_next_model(
    bases, instructs, corpus, conversations, make_artifact, tmp_path, monkeypatch
) -> None:
    models = {"base": bases["tied"], "instruct": instructs["tied"]}
    settings = make_settings(models, corpus, skills=conversations)
    expected = make_artifact(settings, tmp_path / "uninterrupted").result
    measured: list[str] = []
    original = evaluate._evaluate_model

    def measure(path: Path, name: str, *arguments: Any) -> Any:
        measured.append(name)
        if name == "instruct" and measured.count(name) == 1:
            raise KeyboardInterrupt
        return original(path, name, *arguments)

    monkeypatch.setattr(evaluate, "_evaluate_model", measure)
    with pytest.raises(KeyboardInterrupt):
        make_artifact(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert make_artifact(settings, tmp_path / "out").result == expected
    assert measured == ["base", "instruct", "instruct"]


def test_the_same_model_under_two_names_has_the_same_result(bases, corpus, conversations, run_stage, tmp_path) -> None:
    models = {"a": bases["tied"], "b": bases["tied"]}
    result = run_stage(make_settings(models, corpus, skills=conversations), tmp_path / "out")
    assert result.models["a"] == result.models["b"]
    assert result.models["a"].speed is None and result.continuations == ()


def test_the_manifest_holds_the_result(bases, corpus, conversations, run_stage, make_artifact, tmp_path) -> None:
    settings = make_settings({"base": bases["tied"]}, corpus, skills=conversations, num_continuations=1)
    result = run_stage(settings, tmp_path / "stage")
    assert parse_evaluation_result(make_artifact(settings, tmp_path / "artifact").result) == result


def test_without_items_there_are_no_answers(bases, corpus, run_stage, tmp_path) -> None:
    result = run_stage(make_settings({"base": bases["tied"]}, corpus), tmp_path / "out")
    assert result.models["base"].skills is None and result.answers == ()
    assert result.models["base"].bits_per_byte.keys() == result.models["base"].characters_per_token.keys() == {
        "ru", "en"
    }  # fmt: skip


def test_all_answers_are_kept(bases, corpus, conversations, run_stage, tmp_path) -> None:
    run_stage(make_settings({"base": bases["tied"]}, corpus, skills=conversations), tmp_path / "out")
    answers = json.loads((tmp_path / "out" / "models" / "base.json").read_text())["answers"]
    assert len(answers) == 16 and all(answer.keys() == {"text", "tokens", "truncated"} for answer in answers)


def test_efficiency_and_side_effects_are_compared_with_the_reference_and_kept(
    bases, instructs, corpus, conversations, texts, run_stage, tmp_path
) -> None:
    file = tmp_path / "de.txt"
    file.write_text("\n\n".join(texts["en"][900:910]), encoding="utf-8")
    settings = make_settings(
        {"base": bases["tied"], "instruct": instructs["tied"]},
        corpus,
        skills=conversations,
        reference="instruct",
        num_continuations=3,
        efficiency={
            "language": "ru", "batch_size": 2, "prompt_tokens": 8, "generated_tokens": 3, "texts": {"code": [file]}
        },
        side_effects={"texts": {"de": [file]}, "characters": 400},
    )  # fmt: skip
    result = run_stage(settings, tmp_path / "out")
    efficiency, side_effects = result.efficiency, result.side_effects
    assert efficiency.ratios.keys() == side_effects.differences.keys() == {"base"}
    assert efficiency.ratios["base"].reference == side_effects.differences["base"].reference == "instruct"
    base = efficiency.models["base"]
    assert base.texts.keys() == {"en", "ru", "code", "de"}
    assert result.models["base"].speed == GenerationSpeed(
        tokens_per_second=base.tokens_per_second.decode.value, characters_per_second=base.texts["ru"].decode.value
    )
    assert side_effects.texts["de"].characters == 400
    assert side_effects.models["base"].wrong_script.keys() == {"skills", "continuations"}
    assert [row.language for row in result.continuations] == ["en", "en", "ru", "ru", "de", "de"]
    assert len(json.loads((tmp_path / "out" / "models" / "base.json").read_text())["continuations"]) > 6
    assert (tmp_path / "out/efficiency/base.json").exists() and (tmp_path / "out/side_effects/instruct.json").exists()
    assert [table.title for table in build_text_tables(efficiency)] == ["Russian", "English", "German", "code"]
    bits, probes, scripts = build_side_effect_tables(side_effects)
    assert bits.columns == ("German",) and probes.columns and scripts.columns


@pytest.mark.parametrize(
    ("error", "changes"),
    [
        ("no text of language 'de' to measure speed with; there are: en, ru", {"efficiency": {"language": "de"}}),
        ("more than one text is called 'ru'", {"side_effects": {"texts": {"ru": ["TEXT"]}}}),
        (r"empty\.jsonl: no documents; the file is empty", {"side_effects": {"texts": {"de": ["EMPTY"]}}}),
        (r"\.jsonl: no documents \(16 × no text in 'text'\)", {"side_effects": {"texts": {"de": ["CONVERSATIONS"]}}}),
    ],
)
def test_a_text_that_cannot_be_read_is_named_before_a_model_is_loaded(
    bases, corpus, conversations, text_files, make_artifact, tmp_path, monkeypatch, error: str, changes: dict
) -> None:
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    (tmp_path / "empty.jsonl").touch()
    files = {"TEXT": text_files["en"], "EMPTY": tmp_path / "empty.jsonl", "CONVERSATIONS": conversations}
    changes = json.loads(json.dumps(changes))
    for paths in changes.get("side_effects", {}).get("texts", {}).values():
        paths[:] = [files[name] for name in paths]
    with pytest.raises(DataError, match=error):
        make_artifact(make_settings({"base": bases["tied"]}, corpus, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_side_effects_need_a_model_that_is_a_folder(corpus) -> None:
    with pytest.raises(
        ValidationError, match="efficiency and side_effects need models that are folders; there are none"
    ):
        make_settings({}, corpus, side_effects={})


def test_a_corpus_without_text_is_named(bases, make_artifact, tmp_path) -> None:
    with pytest.raises(DataError, match=r"no text; expected \.jsonl"):
        make_artifact(make_settings({"base": bases["tied"]}, bases["tied"]), tmp_path / "out")


def test_a_folder_without_weights_is_named(corpus, make_artifact, tmp_path) -> None:
    with pytest.raises(CheckpointError, match=r"config\.json"):
        make_artifact(make_settings({"base": corpus}, corpus), tmp_path / "out")
