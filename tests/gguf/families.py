"""Tiny models of every exported family, with a tokenizer that llama.cpp knows."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from lep.gguf.known_pre_tokenizers import PRE_TOKENIZER_PATTERNS

LLAMA_3 = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LLAMA_3 |= {"original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 64}

FAMILIES: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "biases": (LlamaConfig, {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "wide_heads": (LlamaConfig, {"head_dim": 32}),
    "llama3_rope": (LlamaConfig, {"rope_parameters": LLAMA_3}),
    "linear": (LlamaConfig, {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "mistral": (MistralConfig, {"sliding_window": None}),
    "qwen2": (Qwen2Config, {"rope_parameters": YARN}),
    "qwen3": (Qwen3Config, {"head_dim": 32, "tie_word_embeddings": True}),
}
SMALL = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "max_position_embeddings": 256, "bos_token_id": 1, "eos_token_id": 2}


def make_family(name: str, folder: Path, tokenizer: Path, *, rows: int, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model of a family with sharp attention and return its folder."""
    config_class, options = FAMILIES[name]
    config = config_class(**(SMALL | {"vocab_size": rows} | options))
    with torch.random.fork_rng():
        torch.manual_seed(len(name))
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.to(dtype).save_pretrained(folder)
    for file in tokenizer.iterdir():
        shutil.copy(file, folder)
    if name.startswith("qwen"):  # AutoTokenizer uses Qwen's class, which has Qwen's pre-tokenizer
        _set_qwen_pre_tokenizer(folder / "tokenizer.json")
    return folder


def _set_qwen_pre_tokenizer(file: Path) -> None:
    split = {
        "type": "Split",
        "pattern": {"Regex": PRE_TOKENIZER_PATTERNS["qwen2"][0]},
        "behavior": "Isolated",
        "invert": False,
    }
    bytes_ = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    parts = {"type": "Sequence", "pretokenizers": [split, bytes_]}
    state = json.loads(file.read_text()) | {"pre_tokenizer": parts, "normalizer": {"type": "NFC"}}
    file.write_text(json.dumps(state))
