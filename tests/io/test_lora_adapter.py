"""An adapter over its base is the model that peft merges, tensor by tensor; what is not that arithmetic is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from lep.errors import CheckpointError
from lep.io.lora_adapter import ADAPTER_SAFE_WEIGHTS_NAME, is_adapter, open_adapter
from lep.io.model_folder import open_model

QUERY, EMBED, HEAD = "model.layers.1.self_attn.q_proj.weight", "model.embed_tokens.weight", "lm_head.weight"
PREFIX = "base_model.model."
PLAIN = {"target_modules": "all-linear"}
PATTERNS = {"rank_pattern": {"q_proj": 4, "layers.0.mlp.up_proj": 1}, "alpha_pattern": {"^model.layers.1.*v_proj": 7}}

MERGED = {
    "all linear layers": ({}, PLAIN),
    "bfloat16": ({"dtype": "bfloat16"}, PLAIN),
    "one layer": ({}, PLAIN | {"layers_to_transform": [1], "target_modules": ["q_proj"]}),
    "ranks and alphas by module": ({}, PLAIN | PATTERNS),
    "rank-stabilized": ({}, PLAIN | {"use_rslora": True}),
    "rank-stabilized by module": ({}, PLAIN | PATTERNS | {"use_rslora": True}),
    "in x out layers": ({"family": "gpt2"}, PLAIN),
    "in x out layers, one by name": ({"family": "gpt2"}, {"target_modules": ["c_attn"], "fan_in_fan_out": False}),
    "tied": ({"tied": True}, PLAIN),
    "whole tables": ({}, PLAIN | {"modules_to_save": ["embed_tokens", "lm_head"]}),
    "whole tied tables": ({"tied": True}, PLAIN | {"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}),
    "whole norms": ({}, PLAIN | {"modules_to_save": ["norm"]}),
    "low rank on the tables": ({}, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    "low rank on positions": ({"family": "gpt2"}, {"target_modules": ["wpe", "c_proj"]}),
    "all biases": ({"attention_bias": True}, {"target_modules": ["q_proj"], "bias": "all"}),
    "biases of adapted layers": ({"attention_bias": True}, {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "rows of tokens": ({}, {"target_modules": ["q_proj"], "trainable_token_indices": [3, 1]}),
    "rows of tied tokens": ({"tied": True}, {"target_modules": ["q_proj"], "trainable_token_indices": [3, 1]}),
    "rows of each table": (
        {},
        {"target_modules": ["q_proj"], "trainable_token_indices": {"embed_tokens": [3, 1], "lm_head": [2]}},
    ),
}


@pytest.mark.parametrize("case", MERGED)
def test_it_is_the_model_that_peft_merges(case, make_base, make_adapter, tmp_path) -> None:
    options, settings = MERGED[case]
    base, folder = make_base(tmp_path / "base", **options), tmp_path / "adapter"
    make_adapter(base, folder, **settings)
    adapter = open_adapter(folder, base=open_model(base))
    expected = loaded(base, folder).merge_and_unload().state_dict()
    stored = load_file(base / "model.safetensors")
    assert adapter.deltas
    for name, weight in stored.items():
        merged = adapter.get_tensor(name)
        assert merged.dtype == weight.dtype
        torch.testing.assert_close(merged, expected[name].to(weight.dtype), rtol=0, atol=1e-6)
        assert torch.equal(merged, weight) == (name not in adapter.deltas)
        assert (adapter.get_delta(name) is None) == (name not in adapter.deltas)


def test_it_rounds_once(make_base, make_adapter, tmp_path) -> None:
    base = make_base(tmp_path / "base", dtype="bfloat16")
    adapter = open_adapter(make_adapter(base, tmp_path / "adapter", **PLAIN), base=open_model(base))
    delta = adapter.get_delta(QUERY)
    assert delta is not None and delta.dtype == torch.float32
    weight = load_file(base / "model.safetensors")[QUERY]
    assert torch.equal(adapter.get_tensor(QUERY), (weight.double() + delta.double()).bfloat16())


@pytest.mark.parametrize("stabilized", [False, True])
def test_the_formula(llama, make_adapter, tmp_path, stabilized) -> None:
    """arXiv 2106.09685, eq. 3 and §4.1: W + alpha/r · B·A; arXiv 2312.03732: alpha/√r."""
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], use_rslora=stabilized)
    a, b = (factor(folder, part) for part in "AB")
    delta = open_adapter(folder, base=open_model(llama)).get_delta(QUERY)
    torch.testing.assert_close(delta, 3 / (math.sqrt(2) if stabilized else 2) * b @ a)


def test_low_rank_on_tied_embeddings_is_applied_once(make_base, make_adapter, tmp_path) -> None:
    """peft's merge adds it twice to the one matrix; what was trained is what it computes unmerged."""
    base = make_base(tmp_path / "base", tied=True)
    folder = make_adapter(base, tmp_path / "adapter", target_modules=["embed_tokens"], ensure_weight_tying=True)
    adapter, ids = open_adapter(folder, base=open_model(base)), torch.arange(50)[None]
    assert list(adapter.deltas) == [EMBED]
    model = AutoModelForCausalLM.from_pretrained(base)
    model.load_state_dict({EMBED: adapter.get_tensor(EMBED)}, strict=False)
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, loaded(base, folder)(ids).logits)


def test_added_tokens_resize_the_embeddings(llama, make_adapter, tmp_path) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], added_rows=3)
    adapter = open_adapter(folder, base=open_model(llama))
    saved = load_file(folder / ADAPTER_SAFE_WEIGHTS_NAME)
    assert {name: table.shape for name, table in adapter.merged_embeddings().items()} == {
        "embed": (53, 16),
        "head": (53, 16),
    }
    assert torch.equal(adapter.merged_embeddings()["embed"], saved[PREFIX + EMBED])
    assert adapter.deltas[EMBED].shape == (53, 16)
    with pytest.raises(CheckpointError, match=r"embed_tokens.weight' has shape \(53, 16\), in the base \(50, 16\)"):
        adapter.get_delta(EMBED)


def test_added_tokens_under_low_rank(llama, make_adapter, tmp_path) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["embed_tokens", "lm_head"], added_rows=3)
    table = open_adapter(folder, base=open_model(llama)).merged_embeddings()["embed"]
    model = AutoModelForCausalLM.from_pretrained(llama)
    model.resize_token_embeddings(53)
    expected = PeftModel.from_pretrained(model, str(folder)).merge_and_unload().state_dict()[EMBED]
    torch.testing.assert_close(table, expected)


def test_resized_tied_embeddings_are_one(make_base, make_adapter, tmp_path) -> None:
    base = make_base(tmp_path / "base", tied=True)
    folder = make_adapter(base, tmp_path / "adapter", target_modules=["q_proj"], added_rows=3)
    assert open_adapter(folder, base=open_model(base)).merged_embeddings()["embed"].shape == (53, 16)


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.removeprefix(PREFIX),
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.replace(PREFIX + "model.", PREFIX),
        lambda key: key.replace(PREFIX + "model.", PREFIX + "model.language_model."),
    ],
    ids=["without the prefix", "with the adapter's name", "of the bare model", "inside another model"],
)
def test_other_formats_of_the_keys(llama, plain, rename, edit_adapter) -> None:
    expected = open_adapter(plain, base=open_model(llama)).get_tensor(QUERY)
    edit_adapter(plain, rename=rename)
    assert torch.equal(open_adapter(plain, base=open_model(llama)).get_tensor(QUERY), expected)


def test_saved_modules_with_the_keys_of_a_raw_checkpoint(llama, make_adapter, tmp_path, edit_adapter) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["lm_head"])
    edit_adapter(folder, rename=lambda key: key.replace("lm_head.weight", "lm_head.modules_to_save.default.weight"))
    assert HEAD in open_adapter(folder, base=open_model(llama)).deltas


def test_words_in_another_order_come_before_suffixes(llama, plain, tmp_path, edit_adapter) -> None:
    """As transformers 5 moved the text model of a vision-language model."""
    tensors = load_file(llama / "model.safetensors")
    moved = {name.replace("model.", "language_model.model."): tensor for name, tensor in tensors.items()}
    moved["language_model.lm_head.weight"] = moved.pop(HEAD)
    tower = {
        name.replace("model.", "vision_model."): tensor.clone()
        for name, tensor in tensors.items()
        if ".layers." in name
    }
    save_file(moved | tower, tmp_path / "model.safetensors")
    config = json.loads((llama / "config.json").read_text()) | {"model_type": "llava"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    edit_adapter(plain, rename=lambda key: key.replace(PREFIX + "model.", PREFIX + "model.language_model."))
    assert f"language_model.{QUERY}" in open_adapter(plain, base=open_model(tmp_path)).deltas


def test_adapters_are_distinguished_from_models(llama, plain) -> None:
    assert is_adapter(plain) and not is_adapter(llama) and not is_adapter(llama / "absent")
    (plain / "model.safetensors").write_bytes((llama / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="holds a model and the adapter"):
        is_adapter(plain)
    (plain / ADAPTER_SAFE_WEIGHTS_NAME).unlink()
    assert not is_adapter(plain)


def loaded(base: Path, folder: Path) -> PeftModel:
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(folder))


def factor(folder: Path, part: str) -> Tensor:
    return load_file(folder / ADAPTER_SAFE_WEIGHTS_NAME)[f"{PREFIX}{QUERY.replace('weight', f'lora_{part}.weight')}"]
