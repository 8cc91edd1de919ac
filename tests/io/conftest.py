"""Tiny base models, and adapters that peft trains on them: random weights, saved as peft saves them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def make_base() -> Callable[..., Path]:
    """`make_base(folder, *, family, tied, dtype, attention_bias)`: a model without a tokenizer; returns its folder."""
    return _make_base


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., Path]:
    """`make_adapter(base, folder, *, added_rows, **settings of LoraConfig)`: returns the adapter's folder."""
    return _make_adapter


@pytest.fixture(scope="module")
def llama(make_base: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base with two tables."""
    return make_base(tmp_path_factory.mktemp("llama") / "base")


@pytest.fixture
def plain(llama: Path, make_adapter: Callable[..., Path], tmp_path: Path) -> Path:
    """An adapter of `llama`, on `q_proj` of both layers."""
    return make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"])


@pytest.fixture(scope="session")
def edit_adapter() -> Callable[..., None]:
    """`edit_adapter(folder, *, rename, change, keep, copy)`: other keys, other tensors, fewer; or also the old ones."""
    return _edit_adapter


@pytest.fixture(scope="session")
def configure_adapter() -> Callable[..., None]:
    """`configure_adapter(folder, **settings)`: other values in its settings."""
    return _configure_adapter


def _make_base(
    folder: Path, *, family: str = "llama", tied: bool = False, dtype: str = "float32", attention_bias: bool = False
) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    common: dict[str, Any] = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 0}
    if family == "gpt2":
        config = GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=32, **common)
    else:
        config = LlamaConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=tied,
            attention_bias=attention_bias,
            **common,
        )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config).to(getattr(torch, dtype)).save_pretrained(folder)
    return folder


def _make_adapter(base: Path, folder: Path, *, added_rows: int = 0, **settings: Any) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(base)
    if added_rows:
        model.resize_token_embeddings(model.config.vocab_size + added_rows)
    adapted = get_peft_model(model, LoraConfig(**{"r": 2, "lora_alpha": 3, "task_type": "CAUSAL_LM"} | settings))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.1)
    adapted.save_pretrained(str(folder))
    return folder


def _edit_adapter(
    folder: Path,
    *,
    rename: Callable[[str], str] = lambda key: key,
    change: Callable[[str, Any], Any] = lambda key, tensor: tensor,
    keep: Callable[[str], bool] = lambda key: True,
    copy: bool = False,
) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / "adapter_model.safetensors"
    old = load_file(path)
    new = {rename(key): change(key, tensor).clone() for key, tensor in old.items() if keep(key)}
    save_file(old | new if copy else new, path)


def _configure_adapter(folder: Path, **settings: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
