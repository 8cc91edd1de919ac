"""Two processes train as one does, by DDP and by FSDP2, and after interruptions."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lep import pipeline
from lep.io.artifact import read_manifest
from lep.io.model_writer import TRAINING_LOG_FILE

STRATEGIES = ("ddp", "fsdp2")
LEP = ("-m", "lep.cli.main")


def torchrun(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """The arguments, run by two processes; ends whatever happens, since a test has a time limit."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([*launcher, *map(str, arguments)], capture_output=True, text=True, env=environment)


@pytest.fixture(scope="module")
def recipe(bases, extended, corpus, tmp_path_factory) -> Path:
    """initialize and pretrain, six steps of eight samples, in micro-batches of two."""
    file = tmp_path_factory.mktemp("distributed") / "recipe.yaml"
    pretrain = {
        "model": "initialize",
        "corpus": str(corpus),
        "mixture": {"ru": 3, "en": 1},
        "tokens": 6 * 8 * 32,
        "sequence_length": 32,
        "batch_size": 8,
        "micro_batch_size": 2,
        "trainable": "embeddings+lora",
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "weight_decay": 0.5,
        "num_evaluations": 3,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    initialize = {"base": str(bases["untied"]), "tokenizer": str(extended)}
    file.write_text(yaml.safe_dump({"initialize": initialize, "pretrain": pretrain}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def one_process(recipe, tmp_path_factory) -> Path:
    """The result of one process."""
    out = tmp_path_factory.mktemp("one_process")
    run_recipe(recipe, out)
    return out / "pretrain"


def run_recipe(recipe: Path, out: Path) -> None:
    steps = pipeline.load_recipe(recipe, [f"out={out}"])
    pipeline.run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)


@pytest.fixture(scope="module")
def two_processes(recipe, tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The results of two processes, and how their launcher ended: see two_processes.py."""
    out = tmp_path_factory.mktemp("two_processes")
    return out, torchrun(Path(__file__).with_name("two_processes.py"), recipe, out)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_processes_train_as_one(one_process, two_processes, tensors, strategy) -> None:
    assert_close(two_processes[0] / "unbroken" / strategy / "pretrain", one_process, tensors)


def assert_close(actual: Path, expected: Path, tensors: Callable[[Path], dict[str, torch.Tensor]]) -> None:
    result, other_result = read_manifest(actual).result, read_manifest(expected).result
    assert len(losses(result)) == 6
    torch.testing.assert_close(losses(result), losses(other_result), rtol=1e-5, atol=1e-5)
    for measured, other in zip(result["curve"], other_result["curve"], strict=True):
        assert measured["bits_per_byte"] == pytest.approx(other["bits_per_byte"], rel=1e-5)
    assert log(actual) == [pytest.approx(row, rel=1e-4) for row in log(expected)]
    before, after, other = (tensors(folder) for folder in (expected.parent / "initialize", actual, expected))
    assert after.keys() == other.keys()
    for name, tensor in other.items():
        torch.testing.assert_close(after[name], tensor, rtol=1e-2, atol=1e-4, msg=name)
        assert torch.equal(after[name], before[name]) is ("norm" in name), name


def log(folder: Path) -> list[dict[str, float]]:
    """Losses and norms of gradients, as one process logged them, each step once."""
    rows = map(json.loads, (folder / TRAINING_LOG_FILE).read_text().splitlines())
    return [{name: row[name] for name in ("step", "loss", "grad_norm")} for row in rows if "grad_norm" in row]


def losses(result: Any) -> torch.Tensor:
    return torch.tensor([row["loss"] for row in result["losses"]])


def test_a_killed_process_ends_the_others(two_processes) -> None:
    out, ended = two_processes
    assert ended.returncode == 1 and f"Signal {signal.SIGKILL.value}" in ended.stderr, ended.stderr
    assert (out / "broken" / "fsdp2" / "pretrain.partial").exists()


def test_an_interrupted_run_ends_as_an_unbroken_one(two_processes, tensors) -> None:
    assert_same(two_processes[0] / "broken" / "ddp", two_processes[0] / "unbroken" / "ddp", tensors)


def test_a_run_resumes_with_another_number_of_processes(recipe, two_processes, one_process, tensors, tmp_path) -> None:
    shutil.copytree(two_processes[0] / "broken" / "fsdp2", tmp_path, dirs_exist_ok=True)
    run_recipe(recipe, tmp_path)
    assert_close(tmp_path / "pretrain", one_process, tensors)


def test_a_killed_run_ends_as_an_unbroken_one(recipe, two_processes, tensors) -> None:
    out = two_processes[0] / "broken" / "fsdp2"
    ended = torchrun(*LEP, "run", recipe, f"out={out}", "pretrain.parallel=fsdp2")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("initialize →") == ended.stdout.count("pretrain →") == 1
    assert_same(out, two_processes[0] / "unbroken" / "fsdp2", tensors)


def assert_same(actual: Path, expected: Path, tensors: Callable[[Path], dict[str, torch.Tensor]]) -> None:
    result, other_result = (read_manifest(folder / "pretrain").result for folder in (actual, expected))
    assert all(result[key] == other_result[key] for key in ("curve", "losses", "trained_tokens"))
    after, other = tensors(actual / "pretrain"), tensors(expected / "pretrain")
    assert after.keys() == other.keys() and all(torch.equal(after[name], other[name]) for name in other)


def test_an_error_of_all_processes_is_printed_once(recipe, tmp_path) -> None:
    ended = torchrun(*LEP, "run", recipe, f"out={tmp_path}", "pretrain.batch=6")
    assert ended.returncode == 1 and "exitcode  : 2" in ended.stderr
    assert ended.stderr.count("pretrain.batch: Extra inputs are not permitted") == 1
    assert "process 1:" not in ended.stderr
