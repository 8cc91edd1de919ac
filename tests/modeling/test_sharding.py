"""A divided model computes what it did, and what it learnt comes back whole. Here one process holds all parts."""

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

from lep.modeling.sharding import gather, observe, shard, share, take_state, whole, whole_state
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import decoder_layers, learnt_weights, let_layers_learn

IDS = torch.arange(24).reshape(2, 12)


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def trainable(learn: str = "embeddings", *, tied: bool = False, dtype: torch.dtype = torch.bfloat16) -> TrainableTables:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=tied, **sizes)).to(dtype).eval()
    found = TrainableTables(model, new_rows=torch.tensor([3, 7]), old_rows_learn=learn != "new_rows")
    let_layers_learn(model, learn, lora_rank=2, lora_alpha=2)
    return found


def divided(learn: str = "embeddings", *, tied: bool = False, dtype: torch.dtype = torch.bfloat16) -> TrainableTables:
    model = trainable(learn, tied=tied, dtype=dtype)
    shard(model, layers=decoder_layers(model.model), dtype=dtype)
    return model


@pytest.mark.parametrize("learn", ["embeddings", "new_rows", "embeddings+lora", "first_last", "full"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_layers_and_what_learns_are_divided_and_frozen_rows_are_not(learn: str, tied: bool) -> None:
    model = divided(learn, tied=tied)
    named = {id(weight): name for name, weight in model.named_parameters()}
    layers = {id(weight) for layer in decoder_layers(model.model) for weight in layer.parameters()}
    for weight in model.parameters():
        expected = weight.requires_grad or id(weight) in layers
        assert isinstance(weight, DTensor) is expected, named[id(weight)]


@pytest.mark.parametrize("learn", ["embeddings", "new_rows", "full"])
def test_loss_and_gradients_are_those_of_the_whole_model(learn: str) -> None:
    model, parts = trainable(learn, dtype=torch.float32), divided(learn, dtype=torch.float32)
    losses = [found(input_ids=IDS, labels=IDS).loss for found in (model, parts)]
    assert torch.equal(*losses)
    for loss in losses:
        loss.backward()
    gradients = {name: weight.grad for name, weight in model.named_parameters() if weight.requires_grad}
    for name, weight in parts.named_parameters():
        if weight.requires_grad:
            assert torch.equal(whole(weight.grad), gradients[name]), name


def test_weights_that_learn_compute_in_half_precision_and_step_in_float32() -> None:
    model = divided("full")
    seen: dict[str, set[torch.dtype]] = {}
    for layer in decoder_layers(model.model):
        layer.self_attn.q_proj.register_forward_pre_hook(
            lambda module, _: seen.setdefault("layers", set()).add(module.weight.dtype)
        )
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS).loss
    loss.backward()
    assert seen == {"layers": {torch.bfloat16}}
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert {weight.grad.dtype for weight in model.parameters()} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        expected = trainable("full")(input_ids=IDS, labels=IDS).loss
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_any_part_can_be_used_by_who_observes_and_training_goes_on(mode: type) -> None:
    model, parts = trainable(), divided()

    @mode()
    def look(found: TrainableTables) -> torch.Tensor:
        states = found.model.base_model(input_ids=IDS)[0]
        return found.model.get_output_embeddings()(states)

    assert torch.equal(observe(parts, look), look(model))
    assert all(isinstance(weight, DTensor) for weight in parts.tables["embed"].parameters())
    parts(input_ids=IDS, labels=IDS).loss.backward()
    assert all(weight.grad is not None for weight in parts.tables["head"].parameters())


def test_the_state_is_whole_and_comes_back() -> None:
    parts, other = divided("full"), divided("full")
    with torch.no_grad():
        for weight in parts.parameters():
            weight += 1
    state = parts.state_dict()
    assert not any(isinstance(weight, DTensor) for weight in state.values())
    other.load_state_dict(state)
    assert all(torch.equal(weight, state[name]) for name, weight in other.state_dict().items())


def stepped(model: TrainableTables, *, steps: int, state: dict[str, Any] | None = None) -> torch.optim.AdamW:
    learns = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=0.1, fused=True)
    if state:
        take_state(optimizer, deepcopy(state))
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
    return optimizer


def test_an_optimizer_goes_on_from_the_whole_state_of_another_divided_or_not() -> None:
    model, parts = trainable(dtype=torch.float32), divided(dtype=torch.float32)
    states = [stepped(model, steps=2).state_dict(), whole_state(stepped(parts, steps=2))]
    for number, moments in states[0]["state"].items():
        for name, value in moments.items():
            found = states[1]["state"][number][name]
            assert type(found) is torch.Tensor and torch.equal(found, value), name
    weights = deepcopy(model.state_dict())
    for fresh, state in ((divided(dtype=torch.float32), states[0]), (trainable(dtype=torch.float32), states[1])):
        fresh.load_state_dict(weights)
        stepped(fresh, steps=1, state=state)
        stepped(model, steps=1, state=states[0])
        assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())
        model.load_state_dict(weights)


@pytest.mark.parametrize("learn", ["new_rows", "embeddings+lora", "full"])
def test_what_was_learnt_is_gathered(learn: str) -> None:
    model, parts = trainable(learn), divided(learn)
    with torch.no_grad():
        for weight in (*model.parameters(), *parts.parameters()):
            if weight.requires_grad:
                weight += 1
    gather(parts)
    for name, table in parts.tables.items():
        assert torch.equal(table(), model.tables[name]())
    found, expected = learnt_weights(parts.model), learnt_weights(model.model)
    assert found.keys() == expected.keys() and (learn == "new_rows") is not bool(found)
    weights = dict(trainable().model.named_parameters())
    for name, became in expected.items():
        assert torch.equal(found[name](weights[name]), became(weights[name])), name


def test_what_is_not_divided_stays_as_it_is() -> None:
    tensor = torch.ones(3)
    assert whole(tensor) is tensor and share(tensor, like=nn.Parameter(torch.zeros(3))) is tensor
    assert observe(nn.Identity(), lambda model: model(5)) == 5
    model = trainable()
    gather(model)
    assert model.tables["embed"].new.requires_grad
