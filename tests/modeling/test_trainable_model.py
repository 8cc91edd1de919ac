"""A `TrainableModel` says what is trained: names, optimizer groups, state, and what embeddings it writes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lep.errors import CheckpointError
from lep.modeling.trainable_layers import TrainableLayers, decoder_layers
from lep.modeling.trainable_model import TrainableModel

NEW = torch.tensor([3, 7, 39])
SETTINGS = ("embeddings", "new_tokens", "embeddings+lora", "first_last", "full")


def causal_lm(*, tied: bool = False, dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=40, tie_word_embeddings=tied, **sizes)).to(dtype).eval()


def split(trainable: str = "embeddings", **kwargs: Any) -> TrainableModel:
    layers = TrainableLayers.from_setting(trainable, lora_rank=2, lora_alpha=2)
    return TrainableModel.with_split_embeddings(
        causal_lm(**kwargs), layers, new_ids=NEW, train_old_rows=trainable != "new_tokens"
    )


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("trainable", SETTINGS)
def test_parameters_are_what_has_a_gradient(trainable: str, tied: bool) -> None:
    model = split(trainable, tied=tied, dtype=torch.bfloat16)
    expected = {id(weight) for weight in model.module.parameters() if weight.requires_grad}
    assert {id(weight) for weight in model.parameters.values()} == expected
    assert all(weight.dtype == torch.float32 for weight in model.parameters.values())
    assert set(model.embeddings) == ({"embed"} if tied else {"embed", "head"})
    assert bool(model.layer_names) is (trainable not in ("embeddings", "new_tokens"))


def test_optimizer_groups_have_their_rates_and_vectors_no_decay() -> None:
    rates = {"learning_rate": 1.0, "old_token_learning_rate": 2.0, "layer_learning_rate": 3.0}
    model = split("full")
    new, old, matrices, vectors = model.optimizer_groups(**rates)
    assert [group["lr"] for group in (new, old, matrices, vectors)] == [1.0, 2.0, 3.0, 3.0]
    assert [len(weight) for weight in new["params"]] == [3, 3] and [len(weight) for weight in old["params"]] == [37, 37]
    assert {weight.ndim for weight in matrices["params"]} == {2} and "weight_decay" not in matrices
    assert {weight.ndim for weight in vectors["params"]} == {1} and vectors["weight_decay"] == 0.0
    grouped = [weight for group in (new, old, matrices, vectors) for weight in group["params"]]
    assert {id(weight) for weight in grouped} == {id(weight) for weight in model.parameters.values()}
    assert [group["lr"] for group in split("new_tokens").optimizer_groups(**rates)] == [1.0]


@pytest.mark.parametrize("trainable", SETTINGS)
def test_the_state_is_what_is_trained_and_restores_it(trainable: str) -> None:
    model, other = split(trainable, dtype=torch.bfloat16), split(trainable, dtype=torch.bfloat16)
    for weight in model.parameters.values():
        torch.nn.init.normal_(weight)
    state = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert state.keys() == model.parameters.keys()
    other.load_state_dict(state)
    ids = torch.arange(12)[None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.module(ids).logits, other.module(ids).logits)
    for name, matrix in model.embedding_matrices().items():
        assert torch.equal(matrix, other.embedding_matrices()[name])


def test_a_state_that_lacks_rows_is_refused() -> None:
    model = split()
    state = model.state_dict()
    with pytest.raises(KeyError, match=r"embed\.new"):
        model.load_state_dict({name: rows for name, rows in state.items() if name != "embed.new"})
    with pytest.raises(RuntimeError, match="size of tensor"):
        model.load_state_dict(state | {"embed.new": torch.zeros(2, 16)})


@pytest.mark.parametrize(
    ("tied", "embeddings", "names"),
    [
        (True, "none", []),
        (True, "head", ["embed.weight"]),
        (True, "both", ["embed.weight"]),
        (False, "none", []),
        (False, "head", ["head.weight"]),
        (False, "both", ["embed.weight", "head.weight"]),
    ],
)
def test_whole_embeddings_are_trained_in_float32(tied: bool, embeddings: Any, names: list[str]) -> None:
    lm = causal_lm(tied=tied, dtype=torch.bfloat16)
    expected = lm(torch.arange(12)[None]).logits
    model = TrainableModel.with_whole_embeddings(lm, embeddings, TrainableLayers())
    assert list(model.parameters) == names and set(model.embedding_matrices()) == {name[:-7] for name in names}
    assert all(weight.dtype == torch.float32 for weight in model.parameters.values())
    assert model.trainable_head_size == (model.head_size if names else 0) and model.head_size == 40 * 16
    assert (lm.lm_head.weight is lm.model.embed_tokens.weight) is tied
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(lm(torch.arange(12)[None]).logits, expected, rtol=2e-2, atol=2e-2)


def test_trained_sizes_of_the_head_are_those_of_its_rows() -> None:
    assert split("new_tokens").trainable_head_size == 3 * 16
    assert split("embeddings").trainable_head_size == split("embeddings").head_size == 40 * 16


def test_a_model_on_one_process_is_evaluated_as_it_is() -> None:
    model = split()
    assert not model.is_sharded and model.evaluate(lambda lm: lm) is model.causal_lm
    model.gather()
    assert model.embeddings["embed"].new.requires_grad


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("embeddings", TrainableLayers()),
        ("new_tokens", TrainableLayers()),
        ("embeddings+lora", TrainableLayers("all", "lora", 4, 8)),
        ("first_last", TrainableLayers("first_last")),
        ("full", TrainableLayers("all")),
    ],
)
def test_the_setting_of_pretraining_names_layers(setting: str, expected: TrainableLayers) -> None:
    assert TrainableLayers.from_setting(setting, lora_rank=4, lora_alpha=8) == expected


def test_a_model_without_a_list_of_layers_is_refused() -> None:
    lm = causal_lm()
    assert decoder_layers(lm) is lm.model.layers
    lm.config.num_hidden_layers = 5
    with pytest.raises(CheckpointError, match="LlamaForCausalLM has no list of 5 layers"):
        decoder_layers(lm)
