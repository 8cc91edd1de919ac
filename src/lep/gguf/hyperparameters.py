"""A model's configuration as the keys of a GGUF file: shapes, norms, and how positions are turned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lep.errors import CheckpointError

ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""llama.cpp's name of an architecture, by `model_type`: what lep writes."""

INTERLEAVED = ("llama",)
"""Architectures whose queries and keys llama.cpp turns by neighbours, transformers by halves."""

_CONVERTER = "llama.cpp's own convert_hf_to_gguf.py may know it"


def architecture(config: PretrainedConfig) -> str:
    """llama.cpp's architecture of a model.

    Raises:
        CheckpointError: a family that is not written here, or a part of one that llama.cpp computes otherwise.
    """
    if (name := ARCHITECTURES.get(config.model_type)) is None:
        raise CheckpointError(
            f"model_type {config.model_type}: lep writes GGUF of {', '.join(ARCHITECTURES)}; {_CONVERTER}"
        )
    if config.hidden_act != "silu":
        raise CheckpointError(f"hidden_act {config.hidden_act}: llama.cpp computes silu in {name}; {_CONVERTER}")
    return name


def add_hyperparameters(writer: GGUFWriter, config: PretrainedConfig, *, rows: int) -> None:
    """Add the keys of the architecture.

    Raises:
        CheckpointError: positions are scaled in a way that is not written here.
    """
    writer.add_vocab_size(rows)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_size(config))
    writer.add_rope_freq_base(_rope(config)["rope_theta"])
    _add_scaling(writer, _rope(config))


def head_size(config: PretrainedConfig) -> int:
    """Numbers of one head's query."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def rope_factors(config: PretrainedConfig) -> np.ndarray | None:
    """By how much each wave is slowed down, where they are not all alike (Llama-3.1); float32, half a head long."""
    if _rope(config)["rope_type"] != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    size = head_size(config)
    plain = _rope(config)["rope_theta"] ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    return (plain / scaled.numpy().astype(np.float64)).astype(np.float32)


def differences(config: PretrainedConfig) -> Iterator[str]:
    """What llama.cpp computes otherwise, and when that shows."""
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        yield f"llama.cpp reads all that went before, the model the last {window:,} tokens: longer texts differ"


def _rope(config: PretrainedConfig) -> dict[str, Any]:
    return {"rope_type": "default"} | dict(config.rope_parameters)


def _add_scaling(writer: GGUFWriter, rope: dict[str, Any]) -> None:
    kind = rope["rope_type"]
    if kind in ("default", "llama3"):  # the latter is a tensor
        return
    if kind not in ("linear", "yarn"):
        raise CheckpointError(f"rope_type {kind}: lep writes default, linear, yarn, llama3; {_CONVERTER}")
    writer.add_rope_scaling_type(RopeScalingType(kind))
    writer.add_rope_scaling_factor(rope["factor"])
    if kind == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope.get(key) is not None:
                add(rope[key])
