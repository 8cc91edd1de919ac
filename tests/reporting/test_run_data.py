"""Loading a run: every stage once, which models are compared, and errors with remedies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lep.errors import ArtifactError
from lep.reporting import run_data as run_data_module
from lep.reporting.run_data import load_run_data
from lep.results.stages import PropagationResult

from .made_up import NAMES, Write, evaluated, propagated


def test_every_stage_is_found_once_in_the_order_of_the_pipeline(run: Path) -> None:
    run_data = load_run_data(run)
    keys = ["collect", "retokenize", "initialize", "pretrain", "tune"]
    assert [stage.key for stage in run_data.stages] == [*keys, *(f"propagate/{name}" for name in NAMES[3:]), "evaluate"]
    assert [result.method for _, result in run_data.find_results(PropagationResult)] == [
        "swap",
        "overlap",
        "conversion",
    ]
    assert (run_data.target_language, run_data.result_model, run_data.reference_model) == (
        "ru",
        "conversion",
        "instruct",
    )


def test_reference_is_the_instruct_model_that_the_result_came_from(write: Write) -> None:
    result = {"models": dict(zip(("old", "chat", "mine"), list(evaluated()["models"].values())[:3], strict=True))}
    three = {"base": "published", "adapted": "published", "instruct": "chatty"}
    write("made/mine", stage="propagate", result=propagated("overlap"), inputs=three)
    models = {"models.old": "published", "models.chat": "chatty", "models.mine": "made/mine"}
    run_data = load_run_data(write("numbers", stage="evaluate", result=result, inputs=models))
    assert (run_data.result_model, run_data.reference_model) == ("mine", "chat")


def test_stages_of_another_folder_are_named_by_stage_and_folder(run: Path, write: Write) -> None:
    models = {"models.base": "inputs/published", "models.mine": "run/propagate/overlap"}
    result = {"models": dict(zip(("base", "mine"), evaluated()["models"].values(), strict=False))}
    evaluation = write("again/evaluate", stage="evaluate", result=result, inputs=models)
    keys = [stage.key for stage in load_run_data(evaluation).stages]
    assert keys == ["collect", "retokenize", "initialize", "pretrain", "tune", "propagate/overlap", "evaluate"]


def test_without_lineage_the_first_model_is_the_reference(write: Write) -> None:
    result = {"models": dict(list(evaluated()["models"].items())[:2])}
    run_data = load_run_data(write("alone", stage="evaluate", result=result))
    assert (run_data.result_model, run_data.reference_model, run_data.target_language) == ("adapted", "base", "ru")


def test_a_missing_manifest_says_where_and_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"nowhere.*manifest\.json.*lep run"):
        load_run_data(tmp_path / "nowhere")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"stage": "evaluate", "schema_version": 2}'])
def test_a_broken_manifest_says_where_and_what_to_do(run: Path, text: str) -> None:
    (run / "manifest.json").write_text(text)
    with pytest.raises(ArtifactError, match=r"manifest\.json: not a manifest.*lep run"):
        load_run_data(run)


def test_a_broken_manifest_of_an_earlier_stage_is_an_error(run: Path) -> None:
    (run.parent / "tune" / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match="tune"):
        load_run_data(run)


def test_a_missing_field_is_named(run: Path) -> None:
    path = run.parent / "initialize" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["result"]["composed_rows"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"initialize.manifest\.json: .*result\.composed_rows"):
        load_run_data(run)


def test_an_artifact_of_another_stage_is_an_error(run: Path) -> None:
    with pytest.raises(ArtifactError, match="expected an evaluation, found an artifact of 'tune'"):
        load_run_data(run.parent / "tune")


def test_an_evaluation_without_models_is_an_error(write: Write) -> None:
    with pytest.raises(ArtifactError, match="at least one model"):
        load_run_data(write("empty", stage="evaluate", result={"models": {}}))


def test_deleted_inputs_are_skipped(run: Path) -> None:
    shutil.rmtree(run.parent / "tune")
    assert "tune" not in [stage.key for stage in load_run_data(run).stages]


@pytest.mark.parametrize(("mixture", "language"), [({"ru": 9, "en": 1}, "ru"), ({"de": 1}, "en"), (None, "en")])
def test_the_target_language_has_the_largest_share_of_the_mixture(mixture, language) -> None:
    stage = SimpleNamespace(manifest=SimpleNamespace(stage="retokenize", settings={"mixture": mixture}))
    assert run_data_module._find_target_language((stage,), SimpleNamespace(languages=lambda: ["en", "ru"])) == language
