"""Prompts and scores of `lep` are those of plain `lm_eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from lm_eval.tasks import TaskManager

from lep.config import BenchmarkSettings
from lep.evaluation.darumeru import TASK_FILES
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS
from lep.evaluation.darumeru.document_records import read_document_records
from lep.evaluation.darumeru.runner import BASE_MODEL_NUM_FEWSHOT, build_benchmark_models, run_benchmark


def run_plain_lm_eval(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[str, Any]:
    """Do what `lm_eval run --model hf --include_path … --tasks Darumeru` does."""
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)  # takes seconds
    model_args = {"pretrained": str(folder), "dtype": "float32"}
    metadata = {**model_args, "data": str(data)}
    manager = TaskManager(include_path=str(TASK_FILES), include_defaults=False, metadata=metadata)
    results = lm_eval.evaluator.simple_evaluate(
        model="hf",
        model_args=model_args,
        tasks=["Darumeru"],
        task_manager=manager,
        device="cpu",
        bootstrap_iters=0,
        **options,
    )
    assert results is not None
    return results


@pytest.mark.parametrize("name", ["first", "base"])
def test_plain_lm_eval_gives_the_same_numbers(
    name: str, random_models, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_base = name == "base"
    options = {"num_fewshot": BASE_MODEL_NUM_FEWSHOT} if is_base else {"apply_chat_template": True}
    plain = run_plain_lm_eval(random_models[name], tiny_data, monkeypatch, **options)
    settings = BenchmarkSettings(data=tiny_data, base_models=("base",) if is_base else ())
    models = build_benchmark_models(settings, {name: random_models[name]})
    scores = run_benchmark(settings, models, reference=name, dtype="float32", out=tmp_path).models[name]
    assert scores.num_fewshot == (BASE_MODEL_NUM_FEWSHOT if is_base else 0) and scores.chat_template is not is_base

    expected = {task: row["score,none"] for task, row in plain["results"].items()}
    assert {task: row.score for task, row in scores.tasks.items()} == {task: expected[task] for task in TASKS}
    assert scores.micro_average and scores.micro_average.score == pytest.approx(expected["Darumeru"])
    groups = {group: row.score for group, row in scores.groups.items()}
    assert groups == pytest.approx({group: expected[group] for group in GROUPS})
    for task in TASKS:
        records, samples = read_document_records(tmp_path / name / f"{task}.jsonl"), plain["samples"][task]
        assert [record.prompt for record in records] == [sample["arguments"][0][0] for sample in samples]
        for record, sample in zip(records, samples, strict=True):
            responses = [response[0] for response in sample["resps"]]
            if record.log_probabilities is None:
                assert record.answer == responses[0]
            else:
                assert [option for option, _ in record.log_probabilities] == [args[1] for args in sample["arguments"]]
                values = [value for _, value in record.log_probabilities]
                assert values == pytest.approx([value for value, _ in responses], abs=1e-4)
