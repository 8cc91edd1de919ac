"""On a GPU, models are trained, evaluated, sampled from and propagated as on a CPU."""

from __future__ import annotations

import os
import subprocess
import sys
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
from lep.config import PropagateSettings
from lep.core.least_squares import BlockedQR, NormalEquations
from lep.io.artifact import read_manifest
from lep.modeling import chunked_cross_entropy as cross_entropy
from lep.modeling.document_masking import supports_document_masking
from lep.modeling.generation import generate
from lep.modeling.likelihood import compute_total_bits
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU"),
]

LEARN = ["embeddings", "new_tokens", "embeddings+lora", "first_last", "full"]
STEPS = 4


def run_recipe(recipe: Path, out: Path, *changes: str) -> dict[str, Any]:
    """Numbers of every training of a recipe, by its name."""
    steps = pipeline.load_recipe(recipe, [f"out={out}", *changes])
    pipeline.run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)
    return numbers(out)


def numbers(out: Path) -> dict[str, Any]:
    return {folder.parent.name: read_manifest(folder.parent).result for folder in out.rglob("manifest.json")}


@pytest.fixture(scope="module")
def recipe(initialized, corpus, tmp_path_factory) -> Path:
    """Trainings of every kind, one after the other."""
    file = tmp_path_factory.mktemp("gpu") / "recipe.yaml"
    pretrain = {
        "model": str(initialized["untied"]),
        "corpus": str(corpus),
        "mixture": {"ru": 3, "en": 1},
        "tokens": STEPS * 8 * 64,
        "sequence_length": 64,
        "batch_size": 8,
        "micro_batch_size": 4,
        "trainable": LEARN,
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "num_evaluations": 2,
        "evaluation_characters": 300,
        "dtype": "float32",
    }
    file.write_text(yaml.safe_dump({"pretrain": pretrain}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def on_cpu(recipe, tmp_path_factory) -> dict[str, Any]:
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
def test_trainings_go_as_on_a_cpu(recipe, on_cpu, tmp_path, how) -> None:
    changes, tolerance = HOW[how]
    actual = run_recipe(recipe, tmp_path, *changes)
    assert actual.keys() == on_cpu.keys() and len(actual) == len(LEARN)
    for name, expected in on_cpu.items():
        ours, theirs = ([row["loss"] for row in run["losses"]] for run in (actual[name], expected))
        assert ours == pytest.approx(theirs, rel=tolerance), name
        ours, theirs = (run["curve"][-1]["score"] for run in (actual[name], expected))
        assert ours == pytest.approx(theirs, rel=tolerance), name


@pytest.mark.parametrize("change", ["torch_compile=true", "use_liger_kernel=true", "attn_implementation=eager"])
def test_faster_ways_find_the_same(recipe, on_cpu, tmp_path, change) -> None:
    if change.startswith("use_liger"):
        pytest.importorskip("liger_kernel")
    actual = run_recipe(recipe, tmp_path, f"pretrain.{change}", "pretrain.trainable=[embeddings, full]")
    for run in actual.values():
        assert run["mfu"] > 0
    ours = sorted(run["curve"][-1]["score"] for run in actual.values())
    theirs = sorted(run["curve"][-1]["score"] for name, run in on_cpu.items() if any_of(name, "embeddings", "full"))
    assert ours == pytest.approx(theirs, rel=1e-3)


def any_of(name: str, *learn: str) -> bool:
    return any(name.endswith(word) for word in learn)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_bits_are_those_of_a_cpu(initialized, dtype) -> None:
    model = load_model(initialized["tied"], dtype=dtype)
    assert model.device.type == "cuda" and supports_document_masking(model)
    ids = [torch.randint(500, (length,)).tolist() for length in (5, 70, 200)]
    on_gpu = compute_total_bits(model, ids, prefix_id=0, sequence_length=64)
    assert on_gpu == pytest.approx(
        compute_total_bits(model.cpu(), ids, prefix_id=0, sequence_length=64), rel=1e-5 if dtype == "float32" else 1e-3
    )


def test_answers_are_those_of_a_cpu(initialized) -> None:
    model, tokenizer = load_model(initialized["tied"], dtype="float32"), load_tokenizer(initialized["tied"])
    prompts = ["Старый профессор", "A little girl carefully"]
    on_gpu = generate(model, tokenizer, prompts, max_new_tokens=12)
    assert on_gpu == generate(model.to("cpu"), tokenizer, prompts, max_new_tokens=12)  # pyright: ignore


@pytest.mark.parametrize("held", [2**21, 2**27])
def test_the_loss_and_its_gradients_are_those_of_float64(monkeypatch, held) -> None:
    monkeypatch.setattr(cross_entropy, "GPU_LOGITS_CHUNK_BYTES", held)
    torch.manual_seed(0)
    hidden, rows, labels = torch.randn(700, 64), 0.3 * torch.randn(9_000, 64), torch.randint(9_000, (700,))
    labels[::7] = cross_entropy.IGNORE_INDEX
    hidden, rows = hidden.bfloat16(), rows.bfloat16()
    exact = [part.double().requires_grad_() for part in (hidden, rows)]
    loss = torch.nn.functional.cross_entropy(exact[0] @ exact[1].T, labels, reduction="sum", ignore_index=-100)
    loss.backward()
    ours = hidden.cuda().requires_grad_()
    parts = [part.cuda().float().requires_grad_() for part in rows.split([4_000, 5_000])]
    actual = cross_entropy.fused_linear_cross_entropy(ours, rows.cuda(), labels.cuda(), parameters=parts)
    actual.backward()
    assert actual.item() == pytest.approx(loss.item(), rel=1e-3)
    for gradient, expected in zip((ours.grad, torch.cat([part.grad for part in parts])), exact, strict=True):
        error = (gradient.double().cpu() - expected.grad).norm() / expected.grad.norm()
        assert error < 1e-2


@pytest.mark.parametrize("kind", [NormalEquations, BlockedQR])
def test_a_fit_is_that_of_a_cpu(kind) -> None:
    torch.manual_seed(0)
    x = torch.randn(3_000, 640, dtype=torch.float64) * torch.logspace(0, -3, 640, dtype=torch.float64)
    d = x @ torch.randn(640, 640, dtype=torch.float64) + 0.1 * torch.randn_like(x)
    fits = []
    for device in ("cpu", "cuda"):
        equations = kind.empty(640, device=device)
        for rows, change in zip(x.split(1_000), d.split(1_000), strict=True):
            equations.add_rows(rows.to(device), change.to(device))
        solution = equations.solve()
        fits.append(
            (solution.delta.cpu(), equations.relative_residual(solution.delta), solution.condition, solution.rank)
        )
    (delta, *diagnostics), (other, *other_diagnostics) = fits
    assert (delta - other).norm() < 1e-9 * delta.norm()
    assert diagnostics == pytest.approx(other_diagnostics, rel=1e-6)


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_a_propagated_model_is_that_of_a_cpu(
    bases, initialized, instructs, run_stage, tensors, tmp_path, method
) -> None:
    given = {"base": bases["untied"], "adapted": initialized["untied"], "instruct": instructs["untied"]}
    for device in ("cpu", "cuda"):
        run_stage(PropagateSettings(**given, method=method, device=device), tmp_path / f"on {device}")
    expected, actual = (tensors(tmp_path / f"on {device}") for device in ("cpu", "cuda"))
    for name, tensor in expected.items():
        torch.testing.assert_close(actual[name], tensor, rtol=1e-2, atol=1e-5)


@pytest.mark.parametrize("learn", LEARN)
def test_a_sharded_model_trains_as_a_whole_one(learn) -> None:
    """Over NCCL, in a world of one process."""
    whole, sharded = build_model(learn), build_model(learn)
    distributed.init_process_group("cpu:gloo,cuda:nccl", store=HashStore(), rank=0, world_size=1)
    try:
        sharded.shard(dtype=torch.float32)
        losses = [three_steps(model) for model in (whole, sharded)]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
        assert any(isinstance(weight, DTensor) for weight in sharded.parameters.values())
        states = [model.state_dict() for model in (whole, sharded)]
        for name, weight in states[0].items():
            torch.testing.assert_close(states[1][name], weight.cpu(), rtol=1e-3, atol=1e-4)
        sharded.gather()
        assert {weight.device.type for weight in sharded.parameters.values()} == {"cpu"}
        assert bool(sharded.weight_updates()) == (learn not in ("embeddings", "new_tokens"))
    finally:
        distributed.destroy_process_group()


def build_model(trainable: str) -> TrainableModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=400, tie_word_embeddings=False, **sizes)
    causal_lm = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").cuda().eval()
    return TrainableModel.with_split_embeddings(
        causal_lm,
        TrainableLayers.from_setting(trainable, lora_rank=2, lora_alpha=2),
        new_ids=torch.arange(300, 400),
        train_old_rows=trainable != "new_tokens",
    )


def three_steps(model: TrainableModel) -> list[float]:
    optimizer = torch.optim.AdamW(model.parameters.values(), lr=1e-2, fused=True)
    ids = torch.arange(400, device="cuda").view(8, 50)
    losses = []
    for _ in range(3):
        loss = model.module(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses
