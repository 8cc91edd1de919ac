"""What `lep` asks and finds is what the harness's own command asks and finds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lm_eval.evaluator
import pytest
from lm_eval.tasks import TaskManager

from lep.config import Benchmark
from lep.data.records import read_records
from lep.evaluation.darumeru import TASK_FILES
from lep.evaluation.darumeru.aggregation import GROUPS, TASKS
from lep.evaluation.darumeru.runner import SHOTS, candidates, run_benchmark


def plain(folder: Path, data: Path, monkeypatch: pytest.MonkeyPatch, **how: Any) -> dict[str, Any]:
    """What `lm_eval run --model hf --include_path … --tasks Darumeru` does."""
    monkeypatch.setattr(lm_eval.evaluator, "add_env_info", lambda results: None)  # takes seconds
    given = {"pretrained": str(folder), "dtype": "float32"}
    manager = TaskManager(include_path=str(TASK_FILES), include_defaults=False, metadata={**given, "data": str(data)})
    found = lm_eval.evaluator.simple_evaluate(
        model="hf", model_args=given, tasks=["Darumeru"], task_manager=manager, device="cpu", bootstrap_iters=0, **how
    )
    assert found is not None
    return found


@pytest.mark.parametrize("name", ["first", "base"])
def test_plain_lm_eval_gives_the_same_numbers(
    name: str, speakers, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = name == "base"
    how = {"num_fewshot": SHOTS} if base else {"apply_chat_template": True}
    theirs = plain(speakers[name], tiny_data, monkeypatch, **how)
    settings = Benchmark(data=tiny_data, base=("base",) if base else ())
    asked = candidates(settings, {name: speakers[name]})
    ours = run_benchmark(settings, asked, reference=name, dtype="float32", out=tmp_path)["models"][name]
    assert ours["shots"] == (SHOTS if base else 0) and ours["chat_template"] is not base

    scores = {task: row["score,none"] for task, row in theirs["results"].items()}
    assert {task: row["score"] for task, row in ours["tasks"].items()} == {task: scores[task] for task in TASKS}
    averages = {**{group: row["score"] for group, row in ours["groups"].items()}, "Darumeru": ours["micro"]["score"]}
    assert averages == pytest.approx({group: scores[group] for group in (*GROUPS, "Darumeru")})
    for task in TASKS:
        records = [record.row for record in read_records(tmp_path / name / f"{task}.jsonl")]
        samples = theirs["samples"][task]
        assert [record["prompt"] for record in records] == [sample["arguments"][0][0] for sample in samples]
        for record, sample in zip(records, samples, strict=True):
            said = [responses[0] for responses in sample["resps"]]
            if "answer" in record:
                assert record["answer"] == said[0]
            else:
                assert [option for option, _ in record["log_probabilities"]] == [
                    args[1] for args in sample["arguments"]
                ]
                values = [value for _, value in record["log_probabilities"]]
                assert values == pytest.approx([value for value, _ in said], abs=1e-4)
