"""Memory is what is really allocated, for every family of models."""

from __future__ import annotations

from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma3TextConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
)

from lep.evaluation.efficiency.memory import measure_memory, read_context_length
from lep.results.efficiency import ContextLength, MemorySummary

SIZES: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}
LATENT: dict[str, Any] = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4}


def measure(config: Any) -> tuple[MemorySummary, ContextLength]:
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    return measure_memory(model), read_context_length(model)


def test_a_token_costs_keys_and_values_of_each_layer_and_head() -> None:
    memory, context = measure(LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True))
    assert memory.kv_cache_bytes_per_token == 2 * 2 * 2 * 8 * 4  # K and V, layers, heads, head size, bytes
    assert memory.kv_cache_fixed_bytes == 0
    assert context == ContextLength(tokens=2048, sliding_window=None)
    untied, _ = measure(LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=False))
    assert untied.weight_bytes - memory.weight_bytes == 64 * 32 * 4


def test_a_recurrent_model_has_a_state_of_one_size() -> None:
    memory, context = measure(MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=2))
    assert memory.kv_cache_bytes_per_token == 0 and memory.kv_cache_fixed_bytes and context.tokens is None


def test_a_sliding_window_is_read_from_the_layers() -> None:
    memory, context = measure(MistralConfig(**SIZES, num_key_value_heads=2, sliding_window=4096))
    assert (memory.kv_cache_bytes_per_token, memory.kv_cache_fixed_bytes, context.sliding_window) == (256, 0, 4096)
    kinds = ["sliding_attention", "full_attention"]
    memory, context = measure(Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, layer_types=kinds))
    assert memory.kv_cache_bytes_per_token == 2 * 2 * 8 * 4 and context.sliding_window == 4096
    full = Gemma3TextConfig(**SIZES, num_key_value_heads=1, head_dim=8, layer_types=["full_attention"] * 2)
    assert measure(full)[1].sliding_window is None


def test_latent_attention_has_a_cache_that_grows() -> None:
    memory, _ = measure(DeepseekV3Config(**SIZES, **LATENT, v_head_dim=8, first_k_dense_replace=2))
    assert memory.kv_cache_bytes_per_token and memory.kv_cache_fixed_bytes == 0


def test_a_model_without_a_cache_has_only_weights(monkeypatch) -> None:
    monkeypatch.setattr("lep.evaluation.efficiency.memory._measure_cache_bytes", lambda *_: None)
    memory, _ = measure(LlamaConfig(**SIZES))
    assert memory == MemorySummary(memory.weight_bytes) and memory.weight_bytes
