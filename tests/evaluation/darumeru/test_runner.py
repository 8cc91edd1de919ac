"""The benchmark goes on where it broke off, tells what failed, and keeps every answer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config import Benchmark, Endpoint
from lep.data.records import read_records
from lep.errors import EndpointError, LepError, TokenizerError
from lep.evaluation.darumeru import lm_eval_models as backends
from lep.evaluation.darumeru import runner as benchmark
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.runner import candidates, run_benchmark, score_model
from lep.modeling.loading import load_model, load_tokenizer
from lep.sampling import openai_backend as endpoint

FEW = ("darumeru_parus", "darumeru_use", "darumeru_cp_sent_ru")


@pytest.fixture
def run(tiny_data: Path, speakers: dict[str, Path], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """`run("first", "second", tasks=…)`: the benchmark of these models, in `tmp_path`."""

    def run(*names: str, **values: Any) -> dict[str, Any]:
        settings = Benchmark.model_validate({"data": tiny_data, "tasks": FEW, **values})
        asked = candidates(settings, {name: speakers[name] for name in names})
        return run_benchmark(settings, asked, reference=asked[0].name, dtype="float32", out=tmp_path)

    return run


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Tasks that were begun; see `breaks`."""
    begun: list[str] = []
    original = benchmark.ask

    def ask(task: str, model: Any, **how: Any) -> Any:
        begun.append(task)
        return original(task, model, **how)

    monkeypatch.setattr(benchmark, "ask", ask)
    return begun


def breaks(monkeypatch: pytest.MonkeyPatch, wanted: str, error: BaseException) -> None:
    """From now on this task raises."""
    original = benchmark.ask

    def ask(task: str, model: Any, **how: Any) -> Any:
        if task == wanted:
            raise error
        return original(task, model, **how)

    monkeypatch.setattr(benchmark, "ask", ask)


def test_an_interrupted_run_goes_on_with_the_next_task(run, asked, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, FEW[1], KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            run("first", "second")
    assert asked == [FEW[0]]
    numbers = run("first", "second")
    assert asked == [FEW[0], *FEW[1:], *FEW]
    asked.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
        assert run("first", "second", batch_size=3) == numbers  # how it works is no reason to begin anew
    assert asked == []


def test_every_answer_is_kept_with_its_score(run, tmp_path: Path) -> None:
    numbers = run("first")["models"]["first"]
    for task in FEW:
        rows = [record.row for record in read_records(tmp_path / "first" / f"{task}.jsonl")]
        assert [row["document"] for row in rows] == list(range(1, len(rows) + 1))
        assert all(row["prompt"].endswith("<|im_start|>assistant\n") and row["gold"] for row in rows)
        found = TASKS[task].score(TASKS[task].units([row["score"] for row in rows]))
        assert numbers["tasks"][task]["score"] == found
        assert numbers["tasks"][task]["items"] == len(rows)
    both = next(read_records(tmp_path / "first/darumeru_parus.jsonl")).row
    assert [option for option, _ in both["log_probabilities"]] == ["1", "2"]
    assert all(value < 0 for _, value in both["log_probabilities"])


def test_a_model_in_memory_gets_the_numbers_of_its_folder(run, speakers, tiny_data: Path) -> None:
    expected = run("first")["models"]["first"]
    model = load_model(speakers["first"], dtype="float32", attention="sdpa")
    settings = Benchmark(data=tiny_data, tasks=list(FEW))
    assert score_model(model, load_tokenizer(speakers["first"]), settings, name="m", base=False) == expected


def test_models_are_compared_with_the_reference(run) -> None:
    numbers = run("first", "second")
    assert numbers["differences"].keys() == {"second"} and numbers["differences"]["second"]["against"] == "first"
    scores = {name: found["tasks"] for name, found in numbers["models"].items()}
    for task, row in numbers["differences"]["second"]["tasks"].items():
        assert row["difference"] == scores["second"][task]["score"] - scores["first"][task]["score"]
    assert numbers["settings"]["variant"] == "paper" and numbers["settings"]["data"].endswith("darumeru/data")


def test_a_task_that_fails_is_named_when_all_others_are_done(run, asked, tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    shutil.rmtree(data / "use")
    with pytest.raises(LepError) as told:
        run("first", data=data)
    assert "tasks of the benchmark failed (1); the others are kept:" in str(told.value)
    assert f"first: darumeru_use: {data / 'use'}: expected test.jsonl" in str(told.value)
    assert asked == list(FEW) and not list((tmp_path / "first").glob("*.error"))
    shutil.copytree(tiny_data / "use", data / "use")
    assert run("first", data=data)["models"]["first"]["tasks"].keys() == set(FEW)
    assert asked == [*FEW, "darumeru_use"]


def test_what_nobody_foresaw_leaves_a_trace_until_it_is_mended(run, tmp_path: Path) -> None:
    trace = tmp_path / "first/darumeru_use.error"
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, "darumeru_use", ZeroDivisionError("a bug"))
        with pytest.raises(LepError, match=r"first: darumeru_use: ZeroDivisionError: a bug \(see .*darumeru_use.error"):
            run("first")
    assert "Traceback" in trace.read_text()
    with pytest.MonkeyPatch.context() as patch:
        breaks(patch, "darumeru_use", torch.OutOfMemoryError("CUDA out of memory"))
        with pytest.raises(LepError, match=r"out of memory; lower benchmark.batch_size \(8\)"):
            run("first")
    run("first")
    assert not trace.exists()


def test_a_model_without_a_template_is_named_before_any_work(run, speakers, monkeypatch) -> None:
    monkeypatch.setattr(backends, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(TokenizerError, match=r"^base: .*/base has no chat template .*benchmark.base=\[base\]"):
        run("first", "base")
    asked = candidates(Benchmark(base=("base",)), speakers)
    assert {one.name: (one.shots, one.chat_template) for one in asked} == {
        "first": (0, True), "second": (0, True), "base": (5, False)
    }  # fmt: skip
    assert {one.shots for one in candidates(Benchmark(base=("base",), shots=2), speakers)} == {2}


def test_a_prompt_that_does_not_fit_is_an_error(run, make_speaker, speakers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(speakers, "small", make_speaker(tmp_path / "small", context=150))
    with pytest.raises(LepError) as told:
        run("small", tasks=["darumeru_cp_para_ru", "darumeru_extractive"])
    assert "darumeru_cp_para_ru: document 1 takes" in str(told.value)
    assert "tokens, and 1,024 more for the answer, and the model can see 150" in str(told.value)
    assert "darumeru_extractive: document 1 takes" in str(told.value)


def test_examples_give_way_where_the_model_sees_little(
    run, make_speaker, speakers, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setitem(speakers, "small", make_speaker(tmp_path / "small", context=400))
    run("small", tasks=["darumeru_rwsd", "darumeru_use"], shots=4)
    for task in ("darumeru_rwsd", "darumeru_use"):
        prompts = [record.row["prompt"] for record in read_records(tmp_path / "small" / f"{task}.jsonl")]
        assert all(1 <= prompt.count("<|im_start|>user") < 5 for prompt in prompts)


def test_an_endpoint_does_what_it_can(run, server, speakers, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "RETRIES", 1)
    served = Endpoint(url=server.url, model=str(speakers["second"]))
    tasks = ["darumeru_parus", "darumeru_multiq", "darumeru_use", "darumeru_cp_sent_ru"]
    with pytest.raises(EndpointError, match="is the server up"):
        run(
            "second",
            tasks=tasks,
            limit=2,
            endpoints={"served": Endpoint(url="http://127.0.0.1:9/v1", model=served.model)},
        )
    numbers = run("second", tasks=tasks, limit=2, endpoints={"served": served})
    found = numbers["models"]["served"]
    assert found["tasks"]["darumeru_parus"] == {
        "group": "DaruMERA", "error": "compares probabilities, which an endpoint does not tell"
    }  # fmt: skip
    assert "darumeru_parus" in found["micro"]["missing"] and "darumeru_parus" in found["groups"]["DaruMERA"]["missing"]
    for task in tasks[1:]:
        theirs, ours = (
            [record.row for record in read_records(tmp_path / who / f"{task}.jsonl")] for who in ("served", "second")
        )
        assert [row["answer"] for row in theirs] == [row["answer"] for row in ours]
        assert len({row["answer"] for row in theirs}) > 1
    assert json.loads(theirs[0]["prompt"])[0]["role"] == "user"
    assert numbers["differences"]["served"]["tasks"].keys() == set(tasks[1:])
    assert not list((tmp_path / "served").glob("*.answers.jsonl"))
