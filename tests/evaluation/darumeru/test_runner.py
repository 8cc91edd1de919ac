"""The benchmark resumes where it was interrupted, names what failed, and keeps every answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config import BenchmarkSettings, Endpoint
from lep.errors import EndpointError, LepError, TokenizerError
from lep.evaluation.darumeru import lm_eval_models, runner
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.document_records import read_document_records
from lep.evaluation.darumeru.runner import build_benchmark_models, run_benchmark, score_model
from lep.modeling.loading import load_model, load_tokenizer
from lep.results.evaluation import BenchmarkResults, TaskScore
from lep.sampling import openai_backend

FEW = ("darumeru_parus", "darumeru_use", "darumeru_cp_sent_ru")


@pytest.fixture
def run(tiny_data: Path, random_models: dict[str, Path], tmp_path: Path) -> Callable[..., BenchmarkResults]:
    """`run("first", "second", tasks=…)`: the benchmark of these models, in `tmp_path`."""

    def run(*names: str, **values: Any) -> BenchmarkResults:
        settings = BenchmarkSettings.model_validate({"data": tiny_data, "tasks": FEW, **values})
        models = build_benchmark_models(settings, {name: random_models[name] for name in names})
        return run_benchmark(settings, models, reference=models[0].name, dtype="float32", out=tmp_path)

    return run


@pytest.fixture
def started_tasks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks that were started; see `make_task_fail`."""
    started: list[str] = []
    original = runner.run_lm_eval_task

    def run_task(task: str, lm: Any, **options: Any) -> Any:
        started.append(task)
        return original(task, lm, **options)

    monkeypatch.setattr(runner, "run_lm_eval_task", run_task)
    return started


def make_task_fail(monkeypatch: pytest.MonkeyPatch, failing_task: str, error: BaseException) -> None:
    """From now on this task raises."""
    original = runner.run_lm_eval_task

    def run_task(task: str, lm: Any, **options: Any) -> Any:
        if task == failing_task:
            raise error
        return original(task, lm, **options)

    monkeypatch.setattr(runner, "run_lm_eval_task", run_task)


def test_an_interrupted_run_resumes_with_the_next_task(run, started_tasks) -> None:
    with pytest.MonkeyPatch.context() as patch:
        make_task_fail(patch, FEW[1], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run("first", "second")
    assert started_tasks == [FEW[0]]
    results = run("first", "second")
    assert started_tasks == [FEW[0], *FEW[1:], *FEW]
    started_tasks.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lm_eval_models, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
        assert run("first", "second", batch_size=3) == results  # another batch size repeats nothing
    assert started_tasks == []


def test_every_answer_is_kept_with_its_score(run, tmp_path: Path) -> None:
    scores = run("first").models["first"]
    for task in FEW:
        records = read_document_records(tmp_path / "first" / f"{task}.jsonl")
        assert [record.document for record in records] == list(range(1, len(records) + 1))
        assert all(record.prompt.endswith("<|im_start|>assistant\n") and record.gold for record in records)
        score = TASKS[task].aggregate(TASKS[task].group_units([record.score for record in records]))
        assert (scores.tasks[task].score, scores.tasks[task].items) == (score, len(records))
    parus = read_document_records(tmp_path / "first/darumeru_parus.jsonl")[0]
    assert parus.log_probabilities and [option for option, _ in parus.log_probabilities] == ["1", "2"]
    assert all(value < 0 for _, value in parus.log_probabilities)
    fields = json.loads((tmp_path / "first/darumeru_parus.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert list(fields) == ["document", "prompt", "gold", "log_probabilities", "score"]


def test_a_model_in_memory_gets_the_scores_of_its_folder(run, random_models, tiny_data: Path) -> None:
    expected = run("first").models["first"]
    model = load_model(random_models["first"], dtype="float32", attn_implementation="sdpa")
    tokenizer = load_tokenizer(random_models["first"])
    settings = BenchmarkSettings(data=tiny_data, tasks=list(FEW))
    assert score_model(model, tokenizer, settings, model_name="m", is_base=False) == expected


def test_models_are_compared_with_the_reference(run) -> None:
    results = run("first", "second")
    assert results.differences.keys() == {"second"} and results.differences["second"].reference == "first"
    for task, row in results.differences["second"].tasks.items():
        first, second = (results.models[name].tasks[task].score for name in ("first", "second"))
        assert row.difference == second - first
    assert results.settings.variant == "paper" and results.settings.data.endswith("darumeru/data")


def test_a_task_that_fails_is_named_when_all_others_are_finished(
    run, started_tasks, tiny_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "use")
    with pytest.raises(LepError) as info:
        run("first", data=data)
    assert "tasks of the benchmark failed (1); the others are kept:" in str(info.value)
    assert f"first: darumeru_use: {data / 'use'}: expected test.jsonl" in str(info.value)
    assert started_tasks == list(FEW) and not list((tmp_path / "first").glob("*.error"))
    shutil.copytree(tiny_data / "use", data / "use")
    assert run("first", data=data).models["first"].tasks.keys() == set(FEW)
    assert started_tasks == [*FEW, "darumeru_use"]


def test_an_unexpected_error_leaves_a_traceback_until_the_task_succeeds(run, tmp_path: Path) -> None:
    traceback = tmp_path / "first/darumeru_use.error"
    with pytest.MonkeyPatch.context() as patch:
        make_task_fail(patch, "darumeru_use", ZeroDivisionError("a bug"))
        with pytest.raises(LepError, match=r"first: darumeru_use: ZeroDivisionError: a bug \(see .*darumeru_use.error"):
            run("first")
    assert "Traceback" in traceback.read_text()
    with pytest.MonkeyPatch.context() as patch:
        make_task_fail(patch, "darumeru_use", torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(LepError, match=r"out of memory; lower benchmark.batch_size \(8\)"):
            run("first")
    run("first")
    assert not traceback.exists()


def test_a_model_without_a_template_is_named_before_any_work(run, monkeypatch) -> None:
    monkeypatch.setattr(lm_eval_models, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(TokenizerError, match=r"^base: .*/base has no chat template.*benchmark.base_models=\[base\]"):
        run("first", "base")


def test_base_models_are_shown_examples(random_models) -> None:
    models = build_benchmark_models(BenchmarkSettings(base_models=("base",)), random_models)
    assert {model.name: (model.num_fewshot, model.chat_template) for model in models} == {
        "first": (0, True), "second": (0, True), "base": (5, False)
    }  # fmt: skip
    settings = BenchmarkSettings(base_models=("base",), num_fewshot=2)
    assert {model.num_fewshot for model in build_benchmark_models(settings, random_models)} == {2}


def test_a_prompt_that_does_not_fit_is_an_error(
    run, make_random_model, random_models, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(random_models, "small", make_random_model(tmp_path / "small", context=150))
    with pytest.raises(LepError) as info:
        run("small", tasks=["darumeru_cp_para_ru", "darumeru_extractive"])
    assert "darumeru_cp_para_ru: document 1 takes" in str(info.value)
    assert "tokens, and 1,024 more for the answer, and the context of the model is 150" in str(info.value)
    assert "darumeru_extractive: document 1 takes" in str(info.value)


def test_a_small_context_leaves_fewer_examples(
    run, make_random_model, random_models, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(random_models, "small", make_random_model(tmp_path / "small", context=400))
    run("small", tasks=["darumeru_rwsd", "darumeru_use"], num_fewshot=4)
    for task in ("darumeru_rwsd", "darumeru_use"):
        prompts = [record.prompt for record in read_document_records(tmp_path / "small" / f"{task}.jsonl")]
        assert all(1 <= prompt.count("<|im_start|>user") < 5 for prompt in prompts)


def test_an_endpoint_does_the_tasks_that_generate(run, server, random_models, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(openai_backend, "MAX_RETRIES", 1)
    served = Endpoint(base_url=server.url, model=str(random_models["second"]))
    tasks = ["darumeru_parus", "darumeru_multiq", "darumeru_use", "darumeru_cp_sent_ru"]
    unreachable = Endpoint(base_url="http://127.0.0.1:9/v1", model=served.model)
    with pytest.raises(EndpointError, match="is the server up"):
        run("second", tasks=tasks, limit=2, endpoints={"served": unreachable})
    results = run("second", tasks=tasks, limit=2, endpoints={"served": served})
    scores = results.models["served"]
    assert scores.tasks["darumeru_parus"] == TaskScore(
        "DaruMERA", error="compares log-probabilities, which an endpoint does not return"
    )
    assert "darumeru_parus" in scores.micro_average.missing and "darumeru_parus" in scores.groups["DaruMERA"].missing
    for task in tasks[1:]:
        of_endpoint, of_folder = (
            read_document_records(tmp_path / name / f"{task}.jsonl") for name in ("served", "second")
        )
        assert [record.answer for record in of_endpoint] == [record.answer for record in of_folder]
        assert len({record.answer for record in of_endpoint}) > 1
        assert json.loads(of_endpoint[0].prompt)[0]["role"] == "user"
    assert results.differences["served"].tasks.keys() == set(tasks[1:])
    assert not list((tmp_path / "served").glob("*.answers.jsonl"))
