"""On a GPU, models learn, predict, write and are propagated as on a processor."""

from __future__ import annotations

import os
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import distributed
from torch.distributed import HashStore
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM, LlamaConfig

from lep import pipeline
from lep.config import Propagate
from lep.core.least_squares import BlockedQR, NormalEquations
from lep.io.artifact import read_manifest
from lep.modeling import chunked_cross_entropy as cross_entropy
from lep.modeling.document_masking import attends_inside_documents
from lep.modeling.generation import generate
from lep.modeling.likelihood import total_bits
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.sharding import gather, shard, whole
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import decoder_layers, learnt_weights, let_layers_learn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

LEARN = ["embeddings", "new_rows", "embeddings+lora", "first_last", "full"]
STEPS = 4


def walk(recipe: Path, out: Path, *changes: str) -> dict[str, Any]:
    """Numbers of every training of a recipe, by its name."""
    steps = pipeline.load_recipe(recipe, [f"out={out}", *changes])
    pipeline.run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)
    return numbers(out)


def numbers(out: Path) -> dict[str, Any]:
    return {folder.parent.name: read_manifest(folder.parent).numbers for folder in out.rglob("manifest.json")}


@pytest.fixture(scope="module")
def recipe(initialized, corpus, tmp_path_factory) -> Path:
    """Trainings of every kind, one after the other."""
    file = tmp_path_factory.mktemp("gpu") / "recipe.yaml"
    pretrain = {
        "model": str(initialized["untied"]),
        "corpus": str(corpus),
        "mixture": {"ru": 3, "en": 1},
        "tokens": STEPS * 8 * 64,
        "block": 64,
        "batch_size": 8,
        "micro_batch_size": 4,
        "learn": LEARN,
        "lr": 1e-2,
        "warmup_steps": 1,
        "evaluations": 2,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    file.write_text(yaml.safe_dump({"pretrain": pretrain}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def on_processor(recipe, tmp_path_factory) -> dict[str, Any]:
    """What a process finds that sees no GPU, in float32."""
    out = tmp_path_factory.mktemp("processor")
    command = [sys.executable, "-m", "lep.cli.main", "run", str(recipe), f"out={out}"]
    subprocess.run(command, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, check=True)
    return numbers(out)


HOW = {
    "float32": ((), 1e-4),
    "bfloat16": (("pretrain.dtype=bfloat16",), 1e-2),
    "checkpointing": (("pretrain.dtype=bfloat16", "pretrain.gradient_checkpointing=true"), 1e-2),
}


@pytest.mark.parametrize("how", HOW)
def test_trainings_go_as_on_a_processor(recipe, on_processor, tmp_path, how) -> None:
    changes, tolerance = HOW[how]
    found = walk(recipe, tmp_path, *changes)
    assert found.keys() == on_processor.keys() and len(found) == len(LEARN)
    for name, expected in on_processor.items():
        ours, theirs = ([row["loss"] for row in run["losses"]] for run in (found[name], expected))
        assert ours == pytest.approx(theirs, rel=tolerance), name
        ours, theirs = (run["curve"][-1]["score"] for run in (found[name], expected))
        assert ours == pytest.approx(theirs, rel=tolerance), name


@pytest.mark.parametrize("change", ["compile=true", "liger=true", "attention=eager"])
def test_faster_ways_find_the_same(recipe, on_processor, tmp_path, change) -> None:
    if change.startswith("liger"):
        pytest.importorskip("liger_kernel")
    found = walk(recipe, tmp_path, f"pretrain.{change}", "pretrain.learn=[embeddings, full]")
    for run in found.values():
        assert run["utilisation"] > 0
    ours = sorted(run["curve"][-1]["score"] for run in found.values())
    theirs = sorted(
        run["curve"][-1]["score"] for name, run in on_processor.items() if any_of(name, "embeddings", "full")
    )
    assert ours == pytest.approx(theirs, rel=1e-3)


def any_of(name: str, *learn: str) -> bool:
    return any(name.endswith(word) for word in learn)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_are_those_of_a_processor(initialized, dtype) -> None:
    model = load_model(initialized["tied"], dtype=dtype)
    assert model.device.type == "cuda" and attends_inside_documents(model)
    ids = [torch.randint(500, (length,)).tolist() for length in (5, 70, 200)]
    on_gpu = total_bits(model, ids, prefix=0, block=64)
    assert on_gpu == pytest.approx(
        total_bits(model.cpu(), ids, prefix=0, block=64), rel=1e-5 if dtype == "float32" else 1e-3
    )


def test_answers_are_those_of_a_processor(initialized) -> None:
    model, tokenizer = load_model(initialized["tied"], dtype="float32"), load_tokenizer(initialized["tied"])
    prompts = ["Старый профессор", "A little girl carefully"]
    on_gpu = generate(model, tokenizer, prompts, longest=12)
    assert on_gpu == generate(model.to("cpu"), tokenizer, prompts, longest=12)  # pyright: ignore


@pytest.mark.parametrize("held", [2**21, 2**27])
def test_the_loss_and_its_gradients_are_those_of_float64(monkeypatch, held) -> None:
    monkeypatch.setattr(cross_entropy, "GPU_LOGITS_BYTES", held)
    torch.manual_seed(0)
    hidden, rows, labels = torch.randn(700, 64), 0.3 * torch.randn(9_000, 64), torch.randint(9_000, (700,))
    labels[::7] = cross_entropy.IGNORED
    hidden, rows = hidden.bfloat16(), rows.bfloat16()
    exact = [part.double().requires_grad_() for part in (hidden, rows)]
    loss = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, labels, reduction="sum", ignore_index=-100)
    loss.backward()
    ours = hidden.cuda().requires_grad_()
    parts = [part.cuda().float().requires_grad_() for part in rows.split([4_000, 5_000])]
    found = cross_entropy.summed_cross_entropy(ours, rows.cuda(), labels.cuda(), parts=parts)
    found.backward()
    assert found.item() == pytest.approx(loss.item(), rel=1e-3)
    for gradient, expected in zip((ours.grad, torch.cat([part.grad for part in parts])), exact, strict=True):
        error = (gradient.double().cpu() - expected.grad).norm() / expected.grad.norm()
        assert error < 1e-2


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
def test_a_fit_is_that_of_a_processor(kind) -> None:
    torch.manual_seed(0)
    x = torch.randn(3_000, 640, dtype=torch.float64) * torch.logspace(0, -3, 640, dtype=torch.float64)
    d = x @ torch.randn(640, 640, dtype=torch.float64) + 0.1 * torch.randn_like(x)
    found = []
    for device in ("cpu", "cuda"):
        equations = kind.empty(640, device=device)
        for rows, change in zip(x.split(1_000), d.split(1_000), strict=True):
            equations.add(rows.to(device), change.to(device))
        solution = equations.solve()
        found.append((solution.delta.cpu(), equations.residual(solution.delta), solution.condition, solution.rank))
    (delta, *told), (other, *told_other) = found
    assert (delta - other).norm() < 1e-9 * delta.norm()
    assert told == pytest.approx(told_other, rel=1e-6)


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_a_propagated_model_is_that_of_a_processor(
    bases, initialized, instructs, run_room, tensors, tmp_path, method
) -> None:
    given = {"base": bases["untied"], "adapted": initialized["untied"], "instruct": instructs["untied"]}
    for device in ("cpu", "cuda"):
        run_room(Propagate(**given, method=method, device=device), tmp_path / f"on {device}")
    expected, found = (tensors(tmp_path / f"on {device}") for device in ("cpu", "cuda"))
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("learn", LEARN)
def test_a_divided_model_learns_as_a_whole_one(learn) -> None:
    """Over NCCL, in a world of one process."""
    whole_one = trainable(learn)
    divided = deepcopy(whole_one)
    distributed.init_process_group("cpu:gloo,cuda:nccl", store=HashStore(), rank=0, world_size=1)
    try:
        shard(divided, layers=decoder_layers(divided.model), dtype=torch.float32)
        losses = [three_steps(model) for model in (whole_one, divided)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert any(isinstance(weight, DTensor) for weight in divided.parameters())
        learnt = [
            {name: whole(weight.detach()).cpu() for name, weight in model.named_parameters() if weight.requires_grad}
            for model in (whole_one, divided)
        ]
        for name, weight in learnt[0].items():
            torch.testing.assert_close(learnt[1][name], weight, rtol=1e-3, atol=1e-4)
        gather(divided)
        assert {weight.device.type for weight in divided.parameters() if weight.requires_grad} == {"cpu"}
        assert bool(learnt_weights(divided.model)) == (learn not in ("embeddings", "new_rows"))
    finally:
        distributed.destroy_process_group()


def trainable(learn: str) -> TrainableTables:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=400, tie_word_embeddings=False, **sizes)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").cuda().eval()
    found = TrainableTables(model, new_rows=torch.arange(300, 400), old_rows_learn=learn != "new_rows")
    let_layers_learn(model, learn, lora_rank=2, lora_alpha=2)
    return found


def three_steps(model: TrainableTables) -> list[float]:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, fused=True)
    ids = torch.arange(400, device="cuda").view(8, 50)
    losses = []
    for _ in range(3):
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses
