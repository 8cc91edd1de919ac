"""The benchmark during pretraining: the scores are those of the saved model, and training does not change."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config import BenchmarkSettings, PretrainSettings
from lep.evaluation.darumeru.runner import score_model
from lep.io.model_writer import TRAINING_LOG_FILE
from lep.modeling.loading import load_model, load_tokenizer
from lep.registry import parse_stage_result
from lep.results.stages import PretrainingResult

TASKS = ["darumeru_rucola", "darumeru_use"]
AVERAGES = {"all", "DaruMERA"}


@pytest.fixture(scope="module")
def models_with_long_context(initialized, tmp_path_factory) -> dict[str, Path]:
    """The initialized models, with a context for five examples."""
    root = tmp_path_factory.mktemp("models_with_long_context")
    for kind, source in initialized.items():
        shutil.copytree(source, root / kind)
        config = root / kind / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 4096}))
    return {kind: root / kind for kind in initialized}


@pytest.fixture(scope="module")
def benchmark() -> dict[str, Any]:
    """Settings of the benchmark: two tasks of the tests' own rows."""
    data = Path(__file__).parents[1] / "evaluation/darumeru/data"
    return {"tasks": TASKS, "data": data, "limit": 2, "num_fewshot": 1}


@pytest.mark.parametrize(("kind", "trainable"), [("tied", "new_tokens"), ("untied", "embeddings+lora")])
def test_scores_over_steps_are_those_of_the_model_at_the_step(
    models_with_long_context, benchmark, corpus, run_stage, make_artifact, tensors, tmp_path, kind, trainable
) -> None:
    values = {
        "model": models_with_long_context[kind],
        "corpus": corpus,
        "mixture": {"ru": 3, "en": 1},
        "tokens": 2 * 4 * 32,
        "sequence_length": 32,
        "batch_size": 4,
        "micro_batch_size": 4,
        "learning_rate": 1e-2,
        "trainable": trainable,
        "warmup_steps": 1,
        "num_evaluations": 1,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    settings = PretrainSettings.model_validate(values | {"benchmark": benchmark})
    result = parse_stage_result(make_artifact(settings, tmp_path / "with").result, stage="pretrain")
    assert isinstance(result, PretrainingResult)
    assert [point.step for point in result.curve] == [0, 2]
    assert all(set(point.benchmark) == AVERAGES for point in result.curve)

    last = result.curve[-1].benchmark
    model, tokenizer = load_model(tmp_path / "with", dtype="float32"), load_tokenizer(tmp_path / "with")
    scores = score_model(
        model, tokenizer, BenchmarkSettings.model_validate(benchmark), model_name="result", is_base=True
    )
    assert scores.micro_average and last["all"].score == pytest.approx(scores.micro_average.score)
    assert (last["DaruMERA"].low, last["DaruMERA"].high) == pytest.approx(scores.groups["DaruMERA"].interval)
    rows = [json.loads(line) for line in (tmp_path / "with" / TRAINING_LOG_FILE).read_text().splitlines()]
    assert sum("benchmark/all/score" in row for row in rows) == 2

    without = run_stage(PretrainSettings.model_validate(values), tmp_path / "without")
    expected = tensors(tmp_path / "without")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in tensors(tmp_path / "with").items())
    assert without.losses == result.losses
