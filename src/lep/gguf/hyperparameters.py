"""Write a model's configuration as the keys of a GGUF file: sizes, norms and rotary position embeddings (RoPE)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gguf import GGUFWriter, RopeScalingType
from transformers import PretrainedConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from lep.errors import CheckpointError

GGUF_ARCHITECTURES = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
"""llama.cpp's name of each supported architecture, by `model_type`."""

INTERLEAVED_ROPE_ARCHITECTURES = ("llama",)
"""Architectures for which llama.cpp rotates neighboring dimensions, where transformers rotates the two halves."""

_CONVERTER_HINT = "llama.cpp's own convert_hf_to_gguf.py may support it"


def get_gguf_architecture(config: PretrainedConfig) -> str:
    """Return llama.cpp's name of a model's architecture.

    Args:
        config: The model's configuration.

    Returns:
        The name, such as `llama`.

    Raises:
        CheckpointError: The architecture is not supported, or has an activation that llama.cpp does not compute.
    """
    if (name := GGUF_ARCHITECTURES.get(config.model_type)) is None:
        raise CheckpointError(
            f"model_type {config.model_type}: lep writes GGUF of {', '.join(GGUF_ARCHITECTURES)}; {_CONVERTER_HINT}"
        )
    if config.hidden_act != "silu":
        raise CheckpointError(f"hidden_act {config.hidden_act}: llama.cpp computes silu in {name}; {_CONVERTER_HINT}")
    return name


def add_hyperparameters(writer: GGUFWriter, config: PretrainedConfig, *, vocab_size: int) -> None:
    """Add the keys of the architecture.

    Args:
        writer: The GGUF file.
        config: The model's configuration.
        vocab_size: Number of rows of the embedding matrices.

    Raises:
        CheckpointError: The RoPE scaling is not supported.
    """
    rope_parameters = _get_rope_parameters(config)
    writer.add_vocab_size(vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(get_head_dim(config))
    writer.add_value_length(get_head_dim(config))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(get_head_dim(config))
    writer.add_rope_freq_base(rope_parameters["rope_theta"])
    _add_rope_scaling(writer, rope_parameters)


def get_head_dim(config: PretrainedConfig) -> int:
    """Return the dimension of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def compute_rope_factors(config: PretrainedConfig) -> np.ndarray | None:
    """Compute the divisor of each RoPE frequency for the `llama3` scaling.

    Args:
        config: The model's configuration.

    Returns:
        A float32 array of `head_dim // 2` divisors; None for other scalings.
    """
    rope_parameters = _get_rope_parameters(config)
    if rope_parameters["rope_type"] != "llama3":
        return None
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")
    size = get_head_dim(config)
    unscaled = rope_parameters["rope_theta"] ** -(np.arange(0, size, 2, dtype=np.float64) / size)
    return (unscaled / scaled.numpy().astype(np.float64)).astype(np.float32)


def list_llama_cpp_differences(config: PretrainedConfig) -> Iterator[str]:
    """Yield what llama.cpp computes differently, and when that matters."""
    window = getattr(config, "sliding_window", None)
    if window and getattr(config, "use_sliding_window", True) and window < config.max_position_embeddings:
        yield (
            f"llama.cpp attends to the full context, the model to the last {window:,} tokens (sliding window): "
            "outputs on longer texts differ"
        )


def _get_rope_parameters(config: PretrainedConfig) -> dict[str, Any]:
    return {"rope_type": "default"} | dict(config.rope_parameters)


def _add_rope_scaling(writer: GGUFWriter, rope_parameters: dict[str, Any]) -> None:
    rope_type = rope_parameters["rope_type"]
    if rope_type in ("default", "llama3"):  # llama3 is written as a tensor
        return
    if rope_type not in ("linear", "yarn"):
        raise CheckpointError(f"rope_type {rope_type}: lep writes default, linear, yarn, llama3; {_CONVERTER_HINT}")
    writer.add_rope_scaling_type(RopeScalingType(rope_type))
    writer.add_rope_scaling_factor(rope_parameters["factor"])
    if rope_type == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope_parameters["original_max_position_embeddings"])
        for key, add in (
            ("attention_factor", writer.add_rope_scaling_yarn_attn_factor),
            ("beta_fast", writer.add_rope_scaling_yarn_beta_fast),
            ("beta_slow", writer.add_rope_scaling_yarn_beta_slow),
        ):
            if rope_parameters.get(key) is not None:
                add(rope_parameters[key])
