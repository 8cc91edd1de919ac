"""An adapter that is not plain LoRA on its base is refused, by the setting or the tensor that says so."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from lep.errors import CheckpointError
from lep.io.lora_adapter import ADAPTER_CONFIG_NAME, ADAPTER_SAFE_WEIGHTS_NAME, open_adapter
from lep.io.model_folder import open_model

QUERY, PREFIX = "model.layers.1.self_attn.q_proj.weight", "base_model.model."


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3', expected 'LORA'"),
        ({"peft_type": None}, "peft_type is None"),
        ({"use_dora": True}, "use_dora is True, which is not plain LoRA"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights 'pissa_niter_16' changes the base"),
        ({"layer_replication": [[0, 2], [1, 2]]}, "layer_replication"),
        ({"target_parameters": ["mlp.experts.down_proj"]}, "target_parameters"),
        ({"lora_bias": True}, "lora_bias"),
        ({"a_new_variant": {"k": 1}}, "a_new_variant is {'k': 1}"),
    ],
)
def test_other_methods_are_refused(llama, plain, settings, words, configure_adapter) -> None:
    configure_adapter(plain, **settings)
    with pytest.raises(CheckpointError, match=words) as caught:
        open_adapter(plain, base=open_model(llama))
    assert ADAPTER_CONFIG_NAME in str(caught.value) and "merge_and_unload().save_pretrained(folder)" in str(
        caught.value
    )


def test_fused_experts_are_refused(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, rename=lambda key: key.replace("self_attn.q_proj", "mlp.experts"))
    with pytest.raises(CheckpointError, match=r"mlp\.experts\.lora_A\.weight' fits no tensor"):
        open_adapter(plain, base=open_model(llama))


def test_a_missing_setting_is_named(llama, plain, configure_adapter) -> None:
    configure_adapter(plain, lora_alpha=None)
    with pytest.raises(CheckpointError, match="lora_alpha is None, expected a number"):
        open_adapter(plain, base=open_model(llama))


def test_a_rank_other_than_the_settings(llama, plain, configure_adapter) -> None:
    configure_adapter(plain, r=8)
    with pytest.raises(CheckpointError, match=r"lora_A\.weight' has shape \(2, 16\), expected \(8, 16\)"):
        open_adapter(plain, base=open_model(llama))


def test_another_width_than_the_base(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, change=lambda key, tensor: torch.zeros(2, 32) if "lora_A" in key else tensor)
    with pytest.raises(
        CheckpointError, match=r"lora_A\.weight' has shape \(2, 32\), expected \(2, 16\); was it trained"
    ):
        open_adapter(plain, base=open_model(llama))


def test_a_factor_of_a_vector(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, rename=lambda key: key.replace("self_attn.q_proj", "input_layernorm"))
    with pytest.raises(CheckpointError, match=r"is for a matrix, but fits one of \(16,\)"):
        open_adapter(plain, base=open_model(llama))


def test_a_missing_factor(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, keep=lambda key: "layers.1" not in key or "lora_B" not in key)
    with pytest.raises(CheckpointError, match=r"layers\.1.*lora_A\.weight' lacks its partner"):
        open_adapter(plain, base=open_model(llama))


def test_the_same_tensor_twice(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, rename=lambda key: key.replace(".weight", ".default.weight"), copy=True)
    with pytest.raises(CheckpointError, match="are the same tensor of the base"):
        open_adapter(plain, base=open_model(llama))


def test_a_module_to_save_that_was_not_saved(llama, make_adapter, tmp_path, edit_adapter, configure_adapter) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["lm_head"])
    configure_adapter(folder, modules_to_save=["lm_head", "a_head_of_other_models"])
    open_adapter(folder, base=open_model(llama))
    edit_adapter(folder, keep=lambda key: "lm_head" not in key)
    with pytest.raises(CheckpointError, match=r"holds no 'lm_head', which .* names in modules_to_save"):
        open_adapter(folder, base=open_model(llama))


def test_tokens_added_to_one_embedding(llama, make_adapter, tmp_path) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["embed_tokens"], added_rows=3)
    with pytest.raises(CheckpointError, match=r"would have 53 and 50 rows \(model\.embed_tokens\.weight, lm_head"):
        open_adapter(folder, base=open_model(llama))


def test_no_tensor_at_all(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, keep=lambda key: False)
    with pytest.raises(CheckpointError, match="holds no tensor"):
        open_adapter(plain, base=open_model(llama))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_not_finite_is_named_when_it_is_read(llama, plain, value, edit_adapter) -> None:
    edit_adapter(
        plain, change=lambda key, tensor: tensor.fill_(value) if "layers.1" in key and "lora_B" in key else tensor
    )
    adapter = open_adapter(plain, base=open_model(llama))
    adapter.get_tensor(QUERY.replace("1", "0"))
    for read in (adapter.get_tensor, adapter.get_delta):
        with pytest.raises(CheckpointError, match=r"layers\.1.*lora_B\.weight' holds a value that is not finite"):
            read(QUERY)


def test_token_rows_outside_the_embedding(llama, make_adapter, tmp_path, configure_adapter) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], trainable_token_indices=[3, 1])
    configure_adapter(folder, trainable_token_indices=[3, 50])
    with pytest.raises(CheckpointError, match=r"goes up to 50, model\.embed_tokens has 50 rows"):
        open_adapter(folder, base=open_model(llama))


def test_pickles_are_refused(llama, plain) -> None:
    (plain / ADAPTER_SAFE_WEIGHTS_NAME).rename(plain / "adapter_model.bin")
    with pytest.raises(CheckpointError, match="pickled weights only, which can run code"):
        open_adapter(plain, base=open_model(llama))


def test_a_layer_beyond_the_base_is_not_another_layer(llama, plain, edit_adapter) -> None:
    edit_adapter(plain, rename=lambda key: key.replace("layers.1", "layers.7"))
    with pytest.raises(
        CheckpointError, match=r"layers\.7\.self_attn\.q_proj\.lora_A\.weight' fits no tensor of .*base"
    ):
        open_adapter(plain, base=open_model(llama))


def test_a_suffix_of_several_tensors_is_refused(llama, plain, tmp_path, edit_adapter) -> None:
    tensors = load_file(llama / "model.safetensors")
    tower = {name.replace("model.", "tower."): tensor.clone() for name, tensor in tensors.items() if ".layers." in name}
    save_file(tensors | tower, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_bytes((llama / "config.json").read_bytes())
    edit_adapter(plain, rename=lambda key: key.replace(PREFIX + "model.", PREFIX))
    with pytest.raises(CheckpointError, match=r"fits several: model\.layers.*, tower\.layers"):
        open_adapter(plain, base=open_model(tmp_path))


@pytest.mark.parametrize(
    "settings",
    [
        {"target_modules": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]},
        {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    ],
)
def test_different_deltas_of_tied_embeddings_are_refused(make_base, make_adapter, tmp_path, settings) -> None:
    base = make_base(tmp_path / "base", tied=True)
    folder = make_adapter(base, tmp_path / "adapter", **settings)
    with pytest.raises(CheckpointError, match="keeps as one matrix; train with ensure_weight_tying=True"):
        open_adapter(folder, base=open_model(base))
