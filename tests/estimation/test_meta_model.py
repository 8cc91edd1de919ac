"""A model of shapes alone weighs, does and keeps what the real one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lep.estimation.costs import state_bytes
from lep.estimation.meta_model import Sketch, kept_bytes, sketched_operations, weigh
from lep.modeling.flops import operations_per_token
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import Learn, let_layers_learn

CONFIGS = Path(__file__).parents[1] / "estimation/configs"
PUBLISHED = {
    "llama-3-8b": 8_030_261_248,
    "llama-3.2-1b": 1_235_814_400,
    "mistral-7b-v0.1": 7_241_732_096,
    "openchat-3.5": 7_241_748_480,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-4b-base": 4_022_468_096,
}
LEARN: tuple[Learn, ...] = ("embeddings", "embeddings+lora", "full")
SAMPLES, BLOCK = 3, 16


@pytest.fixture(scope="module")
def folder(tokenizers, make_model, tmp_path_factory) -> Path:
    return make_model(tmp_path_factory.mktemp("sketch") / "model", tokenizers["byte_level"], tied=False)


def sketched(folder: Path, learn: Learn) -> Any:
    rows = AutoConfig.from_pretrained(folder).vocab_size
    model = Sketch(folder, rows).on_meta(dtype="float32", fused=False)
    model.requires_grad_(False)
    let_layers_learn(model, learn, lora_rank=4, lora_alpha=4)
    return model


def trained(folder: Path, learn: Learn) -> TrainableTables:
    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    model = TrainableTables(loaded, new_rows=torch.arange(loaded.config.vocab_size))
    let_layers_learn(loaded, learn, lora_rank=4, lora_alpha=4)
    return model


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_have_their_published_size(name: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes((CONFIGS / f"{name}.json").read_bytes())
    rows = AutoConfig.from_pretrained(tmp_path).vocab_size
    model = Sketch(tmp_path, rows).on_meta(dtype="bfloat16", fused=True)
    assert weigh(model.requires_grad_(False)).all == PUBLISHED[name]


@pytest.mark.parametrize("learn", LEARN)
def test_a_training_needs_the_same_operations(folder: Path, learn: Learn) -> None:
    model, real = sketched(folder, learn), trained(folder, learn)
    found = sketched_operations(model, weigh(model), learn=1.0, block=BLOCK, twice=False)
    assert found == operations_per_token(real, block=BLOCK)


@pytest.mark.parametrize("learn", LEARN)
def test_a_pass_keeps_the_same_bytes(folder: Path, learn: Learn) -> None:
    found = kept_bytes(sketched(folder, learn), samples=SAMPLES, block=BLOCK, dtype="float32", twice=False)
    real = trained(folder, learn).model
    own = {it.untyped_storage().data_ptr() for it in (*real.parameters(), *real.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        memory = tensor.untyped_storage()
        if memory.data_ptr() not in own:
            kept[memory.data_ptr()] = memory
        return tensor

    mask = torch.zeros(1, 1, BLOCK, BLOCK)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda it: it):
        held = real.base_model(torch.zeros(SAMPLES, BLOCK, dtype=torch.int64), attention_mask=mask, use_cache=False)
    ids = 8 * SAMPLES * BLOCK  # what is looked up is kept in another form
    assert held is not None
    assert abs(sum(memory.nbytes() for memory in kept.values()) - found) <= 4 * ids


@pytest.mark.parametrize("learn", LEARN)
def test_a_model_that_learns_holds_the_same_bytes(folder: Path, learn: Learn) -> None:
    model = sketched(folder, learn)
    weights = weigh(model)
    expected = state_bytes(weights, tables=float(weights.tables), itemsize=4, share=1.0)
    real = trained(folder, learn)
    optimizer = torch.optim.AdamW([it for it in real.parameters() if it.requires_grad])
    real(input_ids=torch.zeros(1, 8, dtype=torch.int64), labels=torch.ones(1, 8, dtype=torch.int64)).loss.backward()
    optimizer.step()
    moments = [it for state in optimizer.state.values() for it in state.values() if it.ndim]
    parts = {id(it): it for it in (*real.parameters(), *(table.rows for table in real.tables.values()), *moments)}
    gradients = [it.grad for it in real.parameters() if it.grad is not None]
    assert sum(it.nbytes for it in (*parts.values(), *gradients)) == expected


def test_keeping_less_is_counted_as_less_memory_and_more_work(folder: Path) -> None:
    model = sketched(folder, "embeddings")
    once, twice = (kept_bytes(model, samples=4, block=64, dtype="float32", twice=it) for it in (False, True))
    work = [sketched_operations(model, weigh(model), learn=1.0, block=64, twice=it) for it in (False, True)]
    assert twice < once and work[1] > work[0]
