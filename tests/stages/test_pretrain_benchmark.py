"""The benchmark on the model as it learns: the scores are those of the result, and learning does not notice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config import Benchmark, Pretrain
from lep.evaluation.darumeru.runner import score_model
from lep.io.model_writer import TRAINING_LOG
from lep.modeling.loading import load_model, load_tokenizer
from lep.results.stages import Pretrained, parse

TASKS = ["darumeru_rucola", "darumeru_use"]
AVERAGES = {"all", "DaruMERA"}


@pytest.fixture(scope="module")
def wide(initialized, tmp_path_factory) -> dict[str, Path]:
    """The initialized models, with room for five examples."""
    root = tmp_path_factory.mktemp("wide")
    for kind, source in initialized.items():
        shutil.copytree(source, root / kind)
        config = root / kind / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 4096}))
    return {kind: root / kind for kind in initialized}


@pytest.fixture(scope="module")
def asked() -> dict[str, Any]:
    """Settings of the benchmark: two tasks of the tests' own rows."""
    data = Path(__file__).parents[1] / "evaluation/darumeru/data"
    return {"tasks": TASKS, "data": data, "limit": 2, "shots": 1}


@pytest.mark.parametrize(("kind", "learn"), [("tied", "new_rows"), ("untied", "embeddings+lora")])
def test_scores_over_steps_are_those_of_the_model_at_the_step(
    wide, asked, corpus, run_room, make_artifact, tensors, tmp_path, kind, learn
) -> None:
    values = {
        "model": wide[kind],
        "corpus": corpus,
        "mixture": {"ru": 3, "en": 1},
        "tokens": 2 * 4 * 32,
        "block": 32,
        "batch_size": 4,
        "micro_batch_size": 4,
        "lr": 1e-2,
        "learn": learn,
        "warmup_steps": 1,
        "evaluations": 1,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    numbers = make_artifact(Pretrain.model_validate(values | {"benchmark": asked}), tmp_path / "with").numbers
    found = parse(numbers, room="pretrain")
    assert isinstance(found, Pretrained)
    assert [point.step for point in found.curve] == [0, 2]
    assert all(set(point.benchmark) == AVERAGES for point in found.curve)

    best = found.curve[-1]
    model, tokenizer = load_model(tmp_path / "with", dtype="float32"), load_tokenizer(tmp_path / "with")
    told = score_model(model, tokenizer, Benchmark.model_validate(asked), name="result", base=True)
    assert best.benchmark["all"].score == pytest.approx(told["micro"]["score"])
    mera = best.benchmark["DaruMERA"]
    assert [mera.low, mera.high] == pytest.approx(told["groups"]["DaruMERA"]["interval"])
    rows = [json.loads(line) for line in (tmp_path / "with" / TRAINING_LOG).read_text().splitlines()]
    assert sum("benchmark/all/score" in row for row in rows) == 2

    plain = run_room(Pretrain.model_validate(values), tmp_path / "without")
    without = tensors(tmp_path / "without")
    assert all(torch.equal(tensor, without[name]) for name, tensor in tensors(tmp_path / "with").items())
    assert plain["losses"] == numbers["losses"]
