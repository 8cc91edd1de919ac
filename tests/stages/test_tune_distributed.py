"""Two processes fine-tune as one does, by DDP and by FSDP2."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch
import yaml

from lep import pipeline
from lep.io.artifact import read_manifest

from .test_distributed import losses, torchrun

METHODS = ("sft", "dpo")
STRATEGIES = ("ddp", "fsdp2")


@pytest.fixture(scope="module")
def recipes(instructs, conversations, texts, tmp_path_factory) -> list[Path]:
    """Three steps of eight samples, in micro-batches of two: adapters and both tables, of tied and of untied ones."""
    root, ru = tmp_path_factory.mktemp("recipes"), texts["ru"]
    pairs = [{"prompt": ru[i], "chosen": ru[i + 1], "rejected": texts["en"][i]} for i in range(12)]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs))
    runs = {"sft": (instructs["untied"], conversations, 1.5), "dpo": (instructs["tied"], root / "pairs.jsonl", 2)}
    for method, (model, data, epochs) in runs.items():
        tune = {
            "model": str(model),
            "data": str(data),
            "method": method,
            "epochs": epochs,
            "lora_rank": 2,
            "learning_rate": 1e-2,
        }
        tune |= {"batch_size": 8, "micro_batch_size": 2, "dtype": "float32", "weight_decay": 0.5}
        (root / f"{method}.yaml").write_text(yaml.safe_dump({"tune": tune}))
    return [root / f"{method}.yaml" for method in METHODS]


@pytest.fixture(scope="module")
def one_process(recipes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("one_process")
    for recipe in recipes:
        steps = pipeline.load_recipe(recipe, [f"out={out / recipe.stem}"])
        pipeline.run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)
    return out


@pytest.fixture(scope="module")
def two_processes(recipes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two_processes")
    ended = torchrun(Path(__file__).with_name("two_tunings.py"), out, *recipes)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.mark.parametrize(("method", "strategy"), list(product(METHODS, STRATEGIES)))
def test_two_processes_tune_as_one(one_process, two_processes, tensors, method, strategy) -> None:
    expected, actual = one_process / method / "tune", two_processes / method / strategy / "tune"
    result, other_result = read_manifest(actual).result, read_manifest(expected).result
    assert len(losses(result)) == 3
    torch.testing.assert_close(losses(result), losses(other_result), rtol=1e-4, atol=1e-4)
    assert result["trained_tokens"] == other_result["trained_tokens"] and result["sources"] == other_result["sources"]
    after, other = tensors(actual), tensors(expected)
    assert after.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(after[name].float(), tensor.float(), rtol=2e-2, atol=1e-3, msg=name)
    assert not (actual / "samples").exists() and not (actual / "checkpoints").exists()
