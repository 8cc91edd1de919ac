"""Which models keep attention inside documents, by what they compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lep.modeling.document_masking import supports_document_masking

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen3": {"head_dim": 8},
    "gemma3_text": {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]},
    "gpt_neox": {},
    "gpt2": {"n_positions": 64},
    "mistral": {"sliding_window": 4},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
}
OTHERS: dict[str, dict[str, Any]] = {"mamba": {"state_size": 4}, "bloom": {}}


def make(kind: str, **more: Any) -> PreTrainedModel:
    config = AutoConfig.for_model(kind, **SIZES | MODELS.get(kind, OTHERS.get(kind, {})))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(config, **more)


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_that_looks_at_positions(kind, attention, dtype) -> None:
    assert supports_document_masking(make(kind, attn_implementation=attention, dtype=dtype))


@pytest.mark.parametrize("kind", OTHERS)
def test_models_that_do_not(kind) -> None:
    assert not supports_document_masking(make(kind))


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_crosses_documents_is_seen_in_every_family(kind, dtype, monkeypatch) -> None:
    """With a cache transformers does not look for documents."""
    model = make(kind, dtype=dtype)
    forward = type(model).forward
    monkeypatch.setattr(type(model), "forward", _with_cache(forward))
    assert not supports_document_masking(model)


def _with_cache(forward):
    def crossing(self, input_ids=None, position_ids=None, use_cache=None):
        return forward(self, input_ids=input_ids, position_ids=position_ids, use_cache=True)

    return crossing


def test_the_model_and_random_numbers_stay_as_they_were() -> None:
    model = make("llama").train()
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    supports_document_masking(model, batch_size=1)
    assert model.training
    assert torch.equal(torch.rand(2), expected)
