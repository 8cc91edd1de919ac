"""The benchmark as a measure of the room: what may be asked, what ends the room, and what makes it anew."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lep.config import Endpoint, Evaluate
from lep.errors import LepError, TokenizerError, UsageError
from lep.pipeline import Step, status
from lep.results.stages import parse_evaluation

DATA = Path(__file__).parents[1] / "evaluation/darumeru/data"
TASKS = ["darumeru_parus", "darumeru_rwsd"]
SERVED = Endpoint(url="http://localhost/v1", model="m")


def settings(models: dict[str, Path], **benchmark: Any) -> Evaluate:
    values = {"data": DATA, "tasks": TASKS, **benchmark}
    return Evaluate.model_validate({"models": models, "benchmark": values, "dtype": "float32"})


def test_an_evaluation_may_be_the_benchmark_alone(bases, instructs, make_artifact, tmp_path) -> None:
    wanted = settings({"base": bases["tied"], "instruct": instructs["tied"]}, base=["base"])
    numbers = make_artifact(wanted, tmp_path / "out").numbers
    found = parse_evaluation(numbers).benchmark
    assert found is not None
    assert {name: one.shots for name, one in found.models.items()} == {"base": 5, "instruct": 0}
    assert found.differences["instruct"].against == "base"
    assert set(found.models["base"].tasks) == set(TASKS)
    assert {file.name for file in (tmp_path / "out/benchmark/base").iterdir()} == {f"{task}.jsonl" for task in TASKS}


def test_how_it_works_does_not_make_it_anew(instructs, make_artifact, tmp_path) -> None:
    models = {"instruct": instructs["tied"]}
    make_artifact(settings(models), tmp_path / "out")
    for same in ({"batch_size": 2}, {"engine": "vllm"}):
        assert status(Step("evaluate", "evaluate", settings(models, **same), tmp_path / "out")) == "done"
    for other in ({"limit": 2}, {"variant": "scripts"}, {"shots": 1}):
        assert status(Step("evaluate", "evaluate", settings(models, **other), tmp_path / "out")) == "to do"


def test_a_task_that_fails_leaves_no_artifact_and_is_tried_again(
    instructs, corpus, make_artifact, tmp_path, monkeypatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(DATA, data)
    wanted = settings({"instruct": instructs["tied"]}, data=data).model_copy(update={"corpus": corpus})
    broken = data / "rwsd/test.jsonl"
    text = broken.read_text(encoding="utf-8")
    broken.write_text(text.replace('"outputs"', '"output"'), encoding="utf-8")
    with pytest.raises(
        LepError, match=r"instruct: darumeru_rwsd: .*rwsd/test.jsonl:1: no column 'outputs'; rwsd needs"
    ):
        make_artifact(wanted, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.partial/models/instruct.json").exists()
    assert (tmp_path / "out.partial/benchmark/instruct/darumeru_parus.jsonl").exists()
    broken.write_text(text, encoding="utf-8")
    assert make_artifact(wanted, tmp_path / "out").numbers["benchmark"]["models"]["instruct"]["tasks"].keys() == set(
        TASKS
    )


def test_a_model_that_cannot_be_asked_is_named_before_the_work(
    instructs, bases, rewrite, make_artifact, tmp_path, monkeypatch
) -> None:
    from lep.stages import evaluate

    bare = rewrite(bases["tied"], tmp_path / "bare", lambda name, tensor: tensor)
    (bare / "chat_template.jinja").unlink()
    monkeypatch.setattr(evaluate, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(TokenizerError, match=r"bare: .*no chat template"):
        make_artifact(settings({"bare": bare}), tmp_path / "out")


def test_the_extra_is_named(instructs, make_artifact, tmp_path, without) -> None:
    without("pymorphy3")
    with pytest.raises(UsageError, match=r"evaluate.benchmark needs pymorphy3.*pip install 'lep\[eval\]'"):
        make_artifact(settings({"instruct": instructs["tied"]}), tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tasks": ["darumeru_parus", "parus"]}, r"parus: no such task or group; there are DaruMMLU, .*darumeru_parus"),
        ({"base": ["b"]}, "benchmark.base: b is not among models: a"),
        ({"endpoints": {"a": SERVED}}, "benchmark.endpoints: a is the name of a model, too"),
        ({"endpoints": {"s": SERVED}, "base": ["s"]}, "s is an endpoint, which is asked as an instruct model"),
        ({"variant": "text"}, "Input should be 'paper' or 'scripts'"),
    ],
)
def test_what_cannot_be_meant_is_an_error(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        settings({"a": Path("a")}, **changes)


def test_the_reference_is_one_of_the_models() -> None:
    with pytest.raises(ValidationError, match="reference: b is not among the models: a, s"):
        Evaluate(models={"a": Path("a")}, reference="b", benchmark={"endpoints": {"s": SERVED}})  # type: ignore[arg-type]


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValidationError, match="there is nothing to measure: give corpus, skills"):
        Evaluate(models={"a": Path("a")}, continuations=2)
    with pytest.raises(ValidationError, match="there is no model to measure"):
        Evaluate(models={}, corpus=Path("corpus"))


def test_groups_stand_for_their_tasks_in_the_order_of_the_benchmark() -> None:
    chosen = settings({"a": Path("a")}, tasks=["DaruSum", "darumeru_rwsd", "darumeru_extractive"]).benchmark
    assert chosen and chosen.chosen == ("darumeru_rwsd", "darumeru_abstractive", "darumeru_extractive")
