"""A model and an adapter are read alike; layer updates are differences to the base."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from lep.errors import CheckpointError
from lep.io.families import EmbeddingNames
from lep.io.model_or_adapter import ModelOrAdapter, build_layer_updates, open_model_or_adapter

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
QUERY, NORM = "model.layers.0.self_attn.q_proj.weight", "model.norm.weight"


OTHER: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "added": lambda tensors: tensors | {QUERY.replace("weight", "bias"): torch.ones(16)},
    "shape": lambda tensors: tensors | {NORM: torch.ones(24)},
}
"""Changes that no training makes."""


def peft_merges(base: Path, folder: Path, *, rows: int = 0) -> dict[str, Tensor]:
    model = AutoModelForCausalLM.from_pretrained(base)
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    return PeftModel.from_pretrained(model, str(folder)).merge_and_unload().state_dict()


@pytest.fixture
def edited(llama, tmp_path) -> Callable[..., Path]:
    """`edited(name, change)`: a copy of the base with other tensors."""

    def edit(name: str, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> Path:
        folder = Path(shutil.copytree(llama, tmp_path / name))
        save_file(change(load_file(llama / "model.safetensors")), folder / "model.safetensors", {"format": "pt"})
        return folder

    return edit


def plus(amount: float, *names: str) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    return lambda tensors: {k: t + amount if k in names else t for k, t in tensors.items()}


def layers(base: Path, adapted: ModelOrAdapter, instruct: ModelOrAdapter, scale: float | None) -> dict[str, Tensor]:
    updates = build_layer_updates(open_model_or_adapter(base, base=None), adapted, instruct, scale=scale)
    return {name: value() for name, value in updates.items()}


def test_a_model_folder_is_read(llama) -> None:
    model, tensors = open_model_or_adapter(llama, base=None), load_file(llama / "model.safetensors")
    assert (model.adapter, model.path, model.tokenizer_folder, model.tied) == (None, llama, llama, False)
    assert (model.num_embeddings, model.embedding_dim, model.changed_layers) == (50, 16, set())
    assert torch.equal(model.embedding_matrix("embed")[:], tensors[EMBED]) and torch.equal(
        model.embedding_matrix("head")[:], tensors[HEAD]
    )
    assert torch.equal(model.get_tensor(QUERY), tensors[QUERY])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [0, 3])
def test_an_adapter_is_the_model_that_peft_merges(make_base, make_adapter, tmp_path, tied, rows) -> None:
    base = make_base(tmp_path / "base", tied=tied)
    folder = make_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"], added_rows=rows)
    model, merged = open_model_or_adapter(folder, base=base), peft_merges(base, folder, rows=50 + rows if rows else 0)
    assert (model.path, model.model.path, model.tied) == (folder, base, tied)
    assert (model.num_embeddings, model.embedding_dim) == (50 + rows, 16)
    assert torch.equal(model.embedding_matrix("embed")[:], merged[EMBED])
    assert torch.equal(model.embedding_matrix("head")[:], merged[EMBED if tied else HEAD])
    assert model.changed_layers == {name for name in merged if "q_proj" in name or "down_proj" in name}
    for name in model.changed_layers | {NORM}:
        assert torch.equal(model.get_tensor(name), merged[name]), name


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_the_tokenizer_of_an_adapter_takes_precedence(llama, plain, name) -> None:
    (plain / "tokenizer_config.json").write_text("{}")
    assert open_model_or_adapter(plain, base=llama).tokenizer_folder == llama
    (plain / name).write_text("{}")
    assert open_model_or_adapter(plain, base=llama).tokenizer_folder == plain


def test_an_adapter_needs_a_base(plain) -> None:
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: is a LoRA adapter; name the initialized model"):
        open_model_or_adapter(plain, base=None)


def test_embedding_names_apply_to_models_and_adapters(llama, plain) -> None:
    names, tensors = EmbeddingNames(embed=HEAD, head=EMBED), load_file(llama / "model.safetensors")
    for model in (
        open_model_or_adapter(llama, base=None, embedding_names=names),
        open_model_or_adapter(plain, base=llama, embedding_names=names),
    ):
        assert torch.equal(model.embedding_matrix("embed")[:], tensors[HEAD])


@pytest.mark.parametrize(("scale", "factor"), [(None, 1.0), (1.0, 1.0), (0.5, 0.5), (-2.0, -2.0), (0.0, None)])
def test_an_adapters_product_is_added_to_the_instruct_models_layers(
    llama, make_adapter, edited, tmp_path, scale, factor
) -> None:
    """α/r·B·A, here 3/2, and saved modules as their difference."""
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["norm"])
    instruct = edited("instruct", plus(1.0, QUERY, NORM))
    updates = layers(
        llama, open_model_or_adapter(folder, base=llama), open_model_or_adapter(instruct, base=llama), scale
    )
    if factor is None:
        assert updates == {}
        return
    base, instruct_tensors = (load_file(model / "model.safetensors") for model in (llama, instruct))
    saved = load_file(folder / "adapter_model.safetensors")
    a, b = (saved[f"base_model.model.{QUERY.replace('weight', f'lora_{part}.weight')}"] for part in "AB")
    assert {name for name in updates if "norm" not in name} == {QUERY, QUERY.replace("layers.0", "layers.1")}
    torch.testing.assert_close(updates[QUERY], instruct_tensors[QUERY] + factor * 1.5 * b @ a)
    whole = saved[f"base_model.model.{NORM}"]
    torch.testing.assert_close(updates[NORM], instruct_tensors[NORM] + factor * (whole - base[NORM]))


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_the_task_vector_of_a_full_model_is_added(llama, edited, scale) -> None:
    """arXiv 2212.04089, section 2; without training the instruct model's layer keeps its bits."""
    adapted, instruct = edited("adapted", plus(0.25, QUERY, EMBED)), edited("instruct", plus(1.0, QUERY, NORM))
    updates = layers(
        llama, open_model_or_adapter(adapted, base=None), open_model_or_adapter(instruct, base=None), scale
    )
    instruct_tensors = load_file(instruct / "model.safetensors")
    torch.testing.assert_close(updates.pop(QUERY), instruct_tensors[QUERY] + scale * 0.25)
    assert not {EMBED, HEAD} & updates.keys()
    assert all(torch.equal(tensor, instruct_tensors[name]) for name, tensor in updates.items())


def test_an_instruct_adapters_layers_are_merged_and_added_to(llama, make_adapter, edited, tmp_path) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"])
    merged, adapted = peft_merges(llama, folder), edited("adapted", plus(0.25, QUERY))
    instruct = open_model_or_adapter(folder, base=llama)
    assert torch.equal(layers(llama, open_model_or_adapter(llama, base=None), instruct, None)[QUERY], merged[QUERY])
    for scale, expected in ((0.0, merged[QUERY]), (2.0, merged[QUERY] + 0.5)):
        torch.testing.assert_close(
            layers(llama, open_model_or_adapter(adapted, base=None), instruct, scale)[QUERY], expected
        )


def test_trained_layers_need_a_scale(llama, edited) -> None:
    adapted, instruct = (
        open_model_or_adapter(path, base=None) for path in (edited("adapted", plus(0.25, NORM)), llama)
    )
    with pytest.raises(CheckpointError, match=rf"adapted: '{NORM}' differs from .*layers_scale=1 adds .* 0 leaves"):
        layers(llama, adapted, instruct, None)
    assert layers(llama, adapted, instruct, 0.0) == {}


def test_trained_embeddings_need_no_scale(llama, edited) -> None:
    adapted = open_model_or_adapter(edited("adapted", plus(0.25, EMBED, HEAD)), base=None)
    assert layers(llama, adapted, open_model_or_adapter(llama, base=None), None) == {}


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_layer_that_the_adapted_model_lacks_is_unchanged(llama, edited, scale) -> None:
    """As buffers, which transformers leaves out."""
    without = edited("adapted", lambda tensors: {name: tensor for name, tensor in tensors.items() if name != NORM})
    assert (
        layers(llama, open_model_or_adapter(without, base=None), open_model_or_adapter(llama, base=None), scale) == {}
    )


@pytest.mark.parametrize(("change", "message"), [("added", "no tensor"), ("shape", r"is \(24,\), in .* \(16,\)")])
def test_a_layer_that_is_not_the_bases_has_no_difference(llama, edited, change, message) -> None:
    adapted = open_model_or_adapter(edited("adapted", OTHER[change]), base=None)
    instruct = open_model_or_adapter(edited("instruct", OTHER["added"]), base=None)
    with pytest.raises(CheckpointError, match=message):
        layers(llama, adapted, instruct, 1.0)


@pytest.mark.parametrize("change", ["added", "shape"])
def test_a_layer_that_is_not_the_bases_needs_a_scale(llama, edited, change) -> None:
    adapted = open_model_or_adapter(edited("adapted", OTHER[change]), base=None)
    with pytest.raises(CheckpointError, match="adapted"):
        layers(llama, adapted, open_model_or_adapter(llama, base=None), None)


def test_a_quantized_layer_cannot_be_added_to(llama, edited) -> None:
    def quantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors | {QUERY: tensors[QUERY].to(torch.float8_e4m3fn)}

    adapted = open_model_or_adapter(edited("adapted", plus(0.25, QUERY)), base=None)
    with pytest.raises(CheckpointError, match=rf"'{QUERY}' is stored as F8_E4M3.*use the unquantized checkpoint"):
        layers(llama, adapted, open_model_or_adapter(edited("instruct", quantized), base=None), 1.0)


def test_a_scalar_is_a_layer_too(llama, edited) -> None:
    """As the logit scale of a model with vision: a tensor without dimensions."""
    with_scale = edited("base", lambda tensors: tensors | {"logit_scale": torch.tensor(2.0)})
    adapted = edited("adapted", lambda tensors: tensors | {"logit_scale": torch.tensor(2.5)})
    instruct = open_model_or_adapter(with_scale, base=None)
    updates = layers(with_scale, open_model_or_adapter(adapted, base=None), instruct, 2.0)
    assert updates["logit_scale"] == 3.0
