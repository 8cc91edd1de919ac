"""Two processes tune as one does, however the work is shared."""

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
WAYS = ("ddp", "fsdp2")


@pytest.fixture(scope="module")
def recipes(instructs, conversations, texts, tmp_path_factory) -> list[Path]:
    """Three steps of eight samples, in micro-batches of two: adapters and both tables, of tied and of untied ones."""
    root, ru = tmp_path_factory.mktemp("recipes"), texts["ru"]
    pairs = [{"prompt": ru[i], "chosen": ru[i + 1], "rejected": texts["en"][i]} for i in range(12)]
    (root / "pairs.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in pairs))
    given = {"sft": (instructs["untied"], conversations, 1.5), "dpo": (instructs["tied"], root / "pairs.jsonl", 2)}
    for method, (model, data, epochs) in given.items():
        tune = {"model": str(model), "data": str(data), "method": method, "epochs": epochs, "lora_rank": 2, "lr": 1e-2}
        tune |= {"batch_size": 8, "micro_batch_size": 2, "dtype": "float32", "weight_decay": 0.5}
        (root / f"{method}.yaml").write_text(yaml.safe_dump({"tune": tune}))
    return [root / f"{method}.yaml" for method in METHODS]


@pytest.fixture(scope="module")
def alone(recipes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    for recipe in recipes:
        steps = pipeline.load_recipe(recipe, [f"out={out / recipe.stem}"])
        pipeline.run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)
    return out


@pytest.fixture(scope="module")
def together(recipes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("together")
    ended = torchrun(Path(__file__).with_name("two_tunings.py"), out, *recipes)
    assert ended.returncode == 0, ended.stderr
    return out


@pytest.mark.parametrize(("method", "way"), list(product(METHODS, WAYS)))
def test_two_processes_tune_as_one(alone, together, tensors, method, way) -> None:
    expected, found = alone / method / "tune", together / method / way / "tune"
    numbers, wanted = read_manifest(found).numbers, read_manifest(expected).numbers
    assert len(losses(numbers)) == 3
    torch.testing.assert_close(losses(numbers), losses(wanted), rtol=1e-4, atol=1e-4)
    assert numbers["trained_tokens"] == wanted["trained_tokens"] and numbers["sources"] == wanted["sources"]
    after, other = tensors(found), tensors(expected)
    assert after.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(after[name].float(), tensor.float(), rtol=2e-2, atol=1e-3, msg=name)
    assert not (found / "samples").exists() and not (found / "checkpoints").exists()
