"""The benchmark in `evaluate`: its settings, its failures, and what makes the stage run again."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lep.config import Endpoint, EvaluateSettings
from lep.errors import LepError, TokenizerError, UsageError
from lep.pipeline import PipelineStep, describe_status
from lep.registry import STAGES
from lep.results.stages import parse_evaluation_result
from lep.stages import evaluate

DATA = Path(__file__).parents[1] / "evaluation/darumeru/data"
TASKS = ["darumeru_parus", "darumeru_rwsd"]
ENDPOINT = Endpoint(base_url="http://localhost/v1", model="m")


def make_settings(models: dict[str, Path], **benchmark: Any) -> EvaluateSettings:
    values = {"data": DATA, "tasks": TASKS, **benchmark}
    return EvaluateSettings.model_validate({"models": models, "benchmark": values, "dtype": "float32"})


def test_an_evaluation_can_be_the_benchmark_alone(bases, instructs, make_artifact, tmp_path) -> None:
    models = {"base": bases["tied"], "instruct": instructs["tied"]}
    manifest = make_artifact(make_settings(models, base_models=["base"]), tmp_path / "out")
    benchmark = parse_evaluation_result(manifest.result).benchmark
    assert benchmark is not None
    assert {name: model.num_fewshot for name, model in benchmark.models.items()} == {"base": 5, "instruct": 0}
    assert benchmark.differences["instruct"].reference == "base"
    assert set(benchmark.models["base"].tasks) == set(TASKS)
    assert {file.name for file in (tmp_path / "out/benchmark/base").iterdir()} == {f"{task}.jsonl" for task in TASKS}


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"batch_size": 2}, "done"),
        ({"backend": "vllm"}, "done"),
        ({"limit": 2}, "to do"),
        ({"variant": "scripts"}, "to do"),
        ({"num_fewshot": 1}, "to do"),
    ],
)
def test_only_settings_that_affect_the_scores_make_the_stage_run_again(
    finished: tuple[dict[str, Path], Path], change: dict[str, Any], status: str
) -> None:
    models, out = finished
    step = PipelineStep("evaluate", STAGES["evaluate"], make_settings(models, **change), out)
    assert describe_status(step) == status


@pytest.fixture(scope="module")
def finished(instructs, make_artifact, tmp_path_factory) -> tuple[dict[str, Path], Path]:
    """Models, and the artifact of their evaluation."""
    models, out = {"instruct": instructs["tied"]}, tmp_path_factory.mktemp("finished") / "out"
    make_artifact(make_settings(models), out)
    return models, out


def test_a_task_that_fails_leaves_no_artifact_and_is_tried_again(instructs, corpus, make_artifact, tmp_path) -> None:
    data = tmp_path / "data"
    shutil.copytree(DATA, data)
    settings = make_settings({"instruct": instructs["tied"]}, data=data).model_copy(update={"corpus": corpus})
    file = data / "rwsd/test.jsonl"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace('"outputs"', '"output"'), encoding="utf-8")
    error = r"instruct: darumeru_rwsd: .*rwsd/test.jsonl:1: no column 'outputs'; rwsd needs"
    with pytest.raises(LepError, match=error):
        make_artifact(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial/models/instruct.json").exists()
    assert (tmp_path / "out.partial/benchmark/instruct/darumeru_parus.jsonl").exists()
    file.write_text(text, encoding="utf-8")
    benchmark = parse_evaluation_result(make_artifact(settings, tmp_path / "out").result).benchmark
    assert benchmark and benchmark.models["instruct"].tasks.keys() == set(TASKS)


def test_a_model_without_a_chat_template_is_named_before_the_work(
    bases, rewrite, make_artifact, tmp_path, monkeypatch
) -> None:
    model = rewrite(bases["tied"], tmp_path / "model", lambda name, tensor: tensor)
    (model / "chat_template.jinja").unlink()
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(TokenizerError, match=r"m: .*no chat template"):
        make_artifact(make_settings({"m": model}), tmp_path / "out")


def test_the_missing_extra_is_named(instructs, make_artifact, tmp_path, without) -> None:
    without("pymorphy3")
    with pytest.raises(UsageError, match=r"evaluate.benchmark needs pymorphy3.*pip install 'lep\[eval\]'"):
        make_artifact(make_settings({"instruct": instructs["tied"]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tasks": ["darumeru_parus", "parus"]}, r"parus: no such task or group; .*DaruMMLU, .*darumeru_parus"),
        ({"base_models": ["b"]}, "benchmark.base_models: b is not among models: a"),
        ({"endpoints": {"a": ENDPOINT}}, "benchmark.endpoints: a is also the name of a model"),
        ({"endpoints": {"s": ENDPOINT}, "base_models": ["s"]}, "s is an endpoint; endpoints are instruct models"),
        ({"variant": "text"}, "Input should be 'paper' or 'scripts'"),
    ],
)
def test_contradicting_settings_are_an_error(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(ValidationError, match=error):
        make_settings({"a": Path("a")}, **changes)


def test_the_reference_is_one_of_the_models() -> None:
    with pytest.raises(ValidationError, match="reference: b is not among the models: a, s"):
        EvaluateSettings(models={"a": Path("a")}, reference="b", benchmark={"endpoints": {"s": ENDPOINT}})  # type: ignore[arg-type]


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValidationError, match="there is nothing to measure; give corpus, skills"):
        EvaluateSettings(models={"a": Path("a")}, num_continuations=2)
    with pytest.raises(ValidationError, match="there is no model to measure"):
        EvaluateSettings(models={}, corpus=Path("corpus"))


def test_a_group_selects_its_tasks_in_the_order_of_the_benchmark() -> None:
    benchmark = make_settings({"a": Path("a")}, tasks=["DaruSum", "darumeru_rwsd", "darumeru_extractive"]).benchmark
    assert benchmark
    assert benchmark.selected_tasks == ("darumeru_rwsd", "darumeru_abstractive", "darumeru_extractive")
