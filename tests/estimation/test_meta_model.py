"""Counts of a model on the `meta` device against those of the real model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lep.estimation.costs import compute_training_state_bytes
from lep.estimation.meta_model import MetaModel, compute_activation_bytes, count_parameters, estimate_flops_per_token
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

CONFIGS = Path(__file__).parent / "configs"
PUBLISHED = {
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.1": 7_241_732_096,
    "openchat-3.5": 7_241_748_480,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-4b-base": 4_022_468_096,
}
TRAINABLE = ("embeddings", "embeddings+lora", "full")
SAMPLES, LENGTH = 3, 16


@pytest.fixture(scope="module")
def folder(tokenizers, make_model, tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("meta_model") / "model", tokenizers["byte_level"], tied=False)


def build_meta(folder: Path, trainable: str) -> TrainableModel:
    rows = AutoConfig.from_pretrained(folder).vocab_size
    layers = TrainableLayers.from_setting(trainable, lora_rank=4, lora_alpha=4)
    return MetaModel(folder, rows).build(dtype="float32", fused_attention=False, embeddings="both", layers=layers)


def build_real(folder: Path, trainable: str) -> TrainableModel:
    causal_lm = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    layers = TrainableLayers.from_setting(trainable, lora_rank=4, lora_alpha=4)
    new_ids = torch.arange(causal_lm.config.vocab_size)
    return TrainableModel.with_split_embeddings(causal_lm, layers, new_ids=new_ids, train_old_rows=True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_size(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((CONFIGS / f"{name}.json").read_bytes())
    rows = AutoConfig.from_pretrained(tmp_path).vocab_size
    model = MetaModel(tmp_path, rows).build(dtype="bfloat16", fused_attention=True)
    assert count_parameters(model).total == PUBLISHED[name]


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_flops_per_token(folder: Path, trainable: str) -> None:
    model, real = build_meta(folder, trainable), build_real(folder, trainable)
    flops = estimate_flops_per_token(model, sequence_length=LENGTH, gradient_checkpointing=False)
    assert flops == real.flops_per_token(sequence_length=LENGTH)


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_activation_bytes(folder: Path, trainable: str) -> None:
    activation_bytes = compute_activation_bytes(
        build_meta(folder, trainable),
        batch_size=SAMPLES,
        sequence_length=LENGTH,
        dtype="float32",
        gradient_checkpointing=False,
    )
    real = build_real(folder, trainable).causal_lm
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*real.parameters(), *real.buffers())}
    saved: dict[int, Any] = {}

    def save(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage
        return tensor

    mask = torch.zeros(1, 1, LENGTH, LENGTH)
    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        output = real.base_model(torch.zeros(SAMPLES, LENGTH, dtype=torch.int64), attention_mask=mask, use_cache=False)
    id_bytes = 8 * SAMPLES * LENGTH  # the real model saves other indices
    assert output is not None  # keeps the graph alive
    assert abs(sum(storage.nbytes() for storage in saved.values()) - activation_bytes) <= 4 * id_bytes


@pytest.mark.parametrize("trainable", TRAINABLE)
def test_training_state_bytes(folder: Path, trainable: str) -> None:
    parameters = count_parameters(build_meta(folder, trainable))
    expected = compute_training_state_bytes(
        parameters, trainable_embedding_count=float(parameters.num_embedding_matrices), itemsize=4, shard_fraction=1.0
    )
    real = build_real(folder, trainable)
    module: Any = real.module
    optimizer = torch.optim.AdamW(real.parameters.values())
    ids = torch.zeros(1, 8, dtype=torch.int64)
    module(input_ids=ids, labels=torch.ones_like(ids)).loss.backward()
    optimizer.step()
    moments = [tensor for state in optimizer.state.values() for tensor in state.values() if tensor.ndim]
    matrices = [matrix.weight for matrix in real.embeddings.values()]
    tensors = {id(tensor): tensor for tensor in (*module.parameters(), *matrices, *moments)}
    gradients = [weight.grad for weight in module.parameters() if weight.grad is not None]
    assert sum(tensor.nbytes for tensor in (*tensors.values(), *gradients)) == expected


def test_gradient_checkpointing_takes_less_memory_and_more_work(folder: Path) -> None:
    model = build_meta(folder, "embeddings")
    kept, recomputed = (
        compute_activation_bytes(model, batch_size=4, sequence_length=64, dtype="float32", gradient_checkpointing=on)
        for on in (False, True)
    )
    once, twice = (
        estimate_flops_per_token(model, sequence_length=64, gradient_checkpointing=on) for on in (False, True)
    )
    assert recomputed < kept and twice - once == 2 * model.count_active_layer_parameters() > 0
