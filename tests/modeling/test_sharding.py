"""A sharded model computes what the whole one does; its trained weights are gathered. One process holds all shards."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import distributed, nn
from torch.distributed import HashStore
from torch.distributed.tensor import DTensor
from transformers import LlamaConfig, LlamaForCausalLM

from lep.modeling.sharding import (
    full_optimizer_state_on_main,
    full_tensor_on_main,
    load_optimizer_state,
    local_shard,
)
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

IDS = torch.arange(24).reshape(2, 12)


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def whole(trainable: str = "embeddings", *, tied: bool = False, dtype: torch.dtype = torch.bfloat16) -> TrainableModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    causal_lm = LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=tied, **sizes)).to(dtype).eval()
    layers = TrainableLayers.from_setting(trainable, lora_rank=2, lora_alpha=2)
    return TrainableModel.with_split_embeddings(
        causal_lm, layers, new_ids=torch.tensor([3, 7]), train_old_rows=trainable != "new_tokens"
    )


def sharded(
    trainable: str = "embeddings", *, tied: bool = False, dtype: torch.dtype = torch.bfloat16
) -> TrainableModel:
    model = whole(trainable, tied=tied, dtype=dtype)
    model.shard(dtype=dtype)
    return model


@pytest.mark.parametrize("trainable", ["embeddings", "new_tokens", "embeddings+lora", "first_last", "full"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_layers_and_trained_weights_are_sharded_and_frozen_rows_are_not(trainable: str, tied: bool) -> None:
    model = sharded(trainable, tied=tied)
    names = {id(weight): name for name, weight in model.module.named_parameters()}
    expected = {id(weight) for layer in model.decoder_layers for weight in layer.parameters()}
    expected |= {id(weight) for weight in model.parameters.values()}
    for weight in model.module.parameters():
        assert isinstance(weight, DTensor) is (id(weight) in expected), names[id(weight)]


@pytest.mark.parametrize("trainable", ["embeddings", "new_tokens", "full"])
def test_loss_and_gradients_are_those_of_the_whole_model(trainable: str) -> None:
    model, shards = whole(trainable, dtype=torch.float32), sharded(trainable, dtype=torch.float32)
    losses = [each.module(input_ids=IDS, labels=IDS).loss for each in (model, shards)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.parameters.items()}
    assert gradients.keys() == shards.parameters.keys()
    for name, weight in shards.parameters.items():
        assert torch.equal(full_tensor_on_main(weight.grad), gradients[name]), name


def test_trained_weights_compute_in_half_precision_and_step_in_float32() -> None:
    model = sharded("full")
    dtypes: set[torch.dtype] = set()
    for layer in model.decoder_layers:
        layer.self_attn.q_proj.register_forward_pre_hook(lambda module, _: dtypes.add(module.weight.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        loss = model.module(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert dtypes == {torch.bfloat16}
    assert {weight.dtype for weight in model.module.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in model.module.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        expected = whole("full").module(input_ids=IDS, labels=IDS).loss
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_any_part_can_be_used_by_an_evaluation_and_training_goes_on(mode: type) -> None:
    model, shards = whole(), sharded()

    @mode()
    def compute_logits(causal_lm: Any) -> torch.Tensor:
        return causal_lm.get_output_embeddings()(causal_lm.base_model(input_ids=IDS)[0])

    assert torch.equal(shards.evaluate(compute_logits), model.evaluate(compute_logits))
    assert all(isinstance(weight, DTensor) for weight in shards.embeddings["embed"].parameters())
    shards.module(input_ids=IDS, labels=IDS).loss.backward()
    assert all(weight.grad is not None for weight in shards.embeddings["head"].parameters())


def test_the_state_is_whole_and_restores_the_shards() -> None:
    shards, other = sharded("full"), sharded("full")
    with torch.no_grad():
        for weight in shards.module.parameters():
            weight += 1
    state = shards.state_dict()
    assert not any(isinstance(weight, DTensor) for weight in state.values())
    other.load_state_dict(state)
    assert all(torch.equal(weight, state[name]) for name, weight in other.state_dict().items())


def step(model: TrainableModel, *, steps: int, state: dict[str, Any] | None = None) -> torch.optim.AdamW:
    optimizer = torch.optim.AdamW(model.parameters.values(), lr=0.1, fused=True)
    if state:
        load_optimizer_state(optimizer, deepcopy(state))
    for _ in range(steps):
        optimizer.zero_grad()
        model.module(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return optimizer


def test_an_optimizer_resumes_from_the_whole_state_of_another_sharded_or_not() -> None:
    model, shards = whole(dtype=torch.float32), sharded(dtype=torch.float32)
    states = [step(model, steps=2).state_dict(), full_optimizer_state_on_main(step(shards, steps=2))]
    for index, moments in states[0]["state"].items():
        for name, value in moments.items():
            other = states[1]["state"][index][name]
            assert type(other) is torch.Tensor and torch.equal(other, value), name
    weights = deepcopy(model.state_dict())
    for fresh, state in ((sharded(dtype=torch.float32), states[0]), (whole(dtype=torch.float32), states[1])):
        fresh.load_state_dict(weights)
        step(fresh, steps=1, state=state)
        step(model, steps=1, state=states[0])
        assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
        model.load_state_dict(weights)


@pytest.mark.parametrize("trainable", ["new_tokens", "embeddings+lora", "full"])
def test_trained_weights_are_gathered(trainable: str) -> None:
    model, shards = whole(trainable), sharded(trainable)
    with torch.no_grad():
        for weight in (*model.parameters.values(), *shards.parameters.values()):
            weight += 1
    shards.gather()
    matrices = shards.embedding_matrices()
    assert all(torch.equal(matrices[name], matrix) for name, matrix in model.embedding_matrices().items())
    updates, expected = shards.weight_updates(), model.weight_updates()
    assert updates.keys() == expected.keys() and (trainable == "new_tokens") is not bool(updates)
    weights = dict(whole().causal_lm.named_parameters())
    for name, update in expected.items():
        assert torch.equal(updates[name](weights[name]), update(weights[name])), name


def test_tensors_that_are_not_sharded_are_returned_as_they_are() -> None:
    tensor = torch.ones(3)
    assert full_tensor_on_main(tensor) is tensor and local_shard(tensor, like=nn.Parameter(torch.zeros(3))) is tensor
