"""A model, or an adapter over one, are read alike; what the layers learnt is told from what they were."""

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
from lep.io.families import TableNames
from lep.io.model_or_adapter import Sibling, new_layers, open_sibling

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


def layers(base: Path, adapted: Sibling, instruct: Sibling, scale: float | None) -> dict[str, Tensor]:
    found = new_layers(open_sibling(base, base=None), adapted, instruct, scale=scale)
    return {name: value() for name, value in found.items()}


def test_a_folder_is_itself(llama) -> None:
    found, tensors = open_sibling(llama, base=None), load_file(llama / "model.safetensors")
    assert (found.adapter, found.path, found.tokenizer, found.tied) == (None, llama, llama, False)
    assert (found.height, found.width, found.changed_layers) == (50, 16, set())
    assert torch.equal(found.rows("embed")[:], tensors[EMBED]) and torch.equal(found.rows("head")[:], tensors[HEAD])
    assert torch.equal(found.tensor(QUERY), tensors[QUERY])


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [0, 3])
def test_an_adapter_is_the_model_that_peft_merges(make_base, make_adapter, tmp_path, tied, rows) -> None:
    base = make_base(tmp_path / "base", tied=tied)
    folder = make_adapter(base, tmp_path / "adapter", target_modules=["q_proj", "down_proj"], added_rows=rows)
    found, merged = open_sibling(folder, base=base), peft_merges(base, folder, rows=50 + rows if rows else 0)
    assert (found.path, found.model.path, found.tied) == (folder, base, tied)
    assert (found.height, found.width) == (50 + rows, 16)
    assert torch.equal(found.rows("embed")[:], merged[EMBED])
    assert torch.equal(found.rows("head")[:], merged[EMBED if tied else HEAD])
    assert found.changed_layers == {name for name in merged if "q_proj" in name or "down_proj" in name}
    for name in found.changed_layers | {NORM}:
        assert torch.equal(found.tensor(name), merged[name]), name


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer.model"])
def test_an_adapters_own_tokenizer_goes_before_its_bases(llama, plain, name) -> None:
    (plain / "tokenizer_config.json").write_text("{}")
    assert open_sibling(plain, base=llama).tokenizer == llama
    (plain / name).write_text("{}")
    assert open_sibling(plain, base=llama).tokenizer == plain


def test_an_adapter_needs_a_base(plain) -> None:
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: is a LoRA adapter; name the initialized model"):
        open_sibling(plain, base=None)


def test_tables_may_be_named_for_all_of_them(llama, plain) -> None:
    names, tensors = TableNames(embed=HEAD, head=EMBED), load_file(llama / "model.safetensors")
    for found in (open_sibling(llama, base=None, names=names), open_sibling(plain, base=llama, names=names)):
        assert torch.equal(found.rows("embed")[:], tensors[HEAD])


@pytest.mark.parametrize(("scale", "factor"), [(None, 1.0), (1.0, 1.0), (0.5, 0.5), (-2.0, -2.0), (0.0, None)])
def test_an_adapters_product_is_added_to_the_instruct_models_layers(
    llama, make_adapter, edited, tmp_path, scale, factor
) -> None:
    """METHOD §2.4: α/r·B·A, here 3/2, and whole modules as their difference."""
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["norm"])
    instruct = edited("instruct", plus(1.0, QUERY, NORM))
    found = layers(llama, open_sibling(folder, base=llama), open_sibling(instruct, base=llama), scale)
    if factor is None:
        assert found == {}
        return
    base, own = (load_file(model / "model.safetensors") for model in (llama, instruct))
    saved = load_file(folder / "adapter_model.safetensors")
    a, b = (saved[f"base_model.model.{QUERY.replace('weight', f'lora_{part}.weight')}"] for part in "AB")
    assert {name for name in found if "norm" not in name} == {QUERY, QUERY.replace("layers.0", "layers.1")}
    torch.testing.assert_close(found[QUERY], own[QUERY] + factor * 1.5 * b @ a)
    whole = saved[f"base_model.model.{NORM}"]
    torch.testing.assert_close(found[NORM], own[NORM] + factor * (whole - base[NORM]))


@pytest.mark.parametrize("scale", [1.0, 0.5, -2.0])
def test_a_whole_models_task_vector_is_added(llama, edited, scale) -> None:
    """arXiv 2212.04089, §2; where nothing was learnt the instruct model's layer keeps its bits."""
    adapted, instruct = edited("adapted", plus(0.25, QUERY, EMBED)), edited("instruct", plus(1.0, QUERY, NORM))
    found = layers(llama, open_sibling(adapted, base=None), open_sibling(instruct, base=None), scale)
    own = load_file(instruct / "model.safetensors")
    torch.testing.assert_close(found.pop(QUERY), own[QUERY] + scale * 0.25)
    assert not {EMBED, HEAD} & found.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in found.items())


def test_an_instruct_adapters_layers_are_merged_and_added_to(llama, make_adapter, edited, tmp_path) -> None:
    folder = make_adapter(llama, tmp_path / "adapter", target_modules=["q_proj"])
    merged, adapted = peft_merges(llama, folder), edited("adapted", plus(0.25, QUERY))
    instruct = open_sibling(folder, base=llama)
    assert torch.equal(layers(llama, open_sibling(llama, base=None), instruct, None)[QUERY], merged[QUERY])
    for scale, wanted in ((0.0, merged[QUERY]), (2.0, merged[QUERY] + 0.5)):
        torch.testing.assert_close(layers(llama, open_sibling(adapted, base=None), instruct, scale)[QUERY], wanted)


def test_layers_that_learnt_need_a_scale(llama, edited) -> None:
    adapted, instruct = (open_sibling(path, base=None) for path in (edited("adapted", plus(0.25, NORM)), llama))
    with pytest.raises(CheckpointError, match=rf"adapted: '{NORM}' is not that of .*layers_scale=1 adds .* 0 leaves"):
        layers(llama, adapted, instruct, None)
    assert layers(llama, adapted, instruct, 0.0) == {}


def test_tables_may_learn_without_one(llama, edited) -> None:
    adapted = open_sibling(edited("adapted", plus(0.25, EMBED, HEAD)), base=None)
    assert layers(llama, adapted, open_sibling(llama, base=None), None) == {}


@pytest.mark.parametrize("scale", [None, 1.0])
def test_a_layer_that_the_adapted_model_lacks_has_learnt_nothing(llama, edited, scale) -> None:
    """As buffers, which transformers leaves out."""
    without = edited("adapted", lambda tensors: {name: tensor for name, tensor in tensors.items() if name != NORM})
    assert layers(llama, open_sibling(without, base=None), open_sibling(llama, base=None), scale) == {}


@pytest.mark.parametrize(("change", "why"), [("added", "no tensor"), ("shape", r"is \(24,\), in .* \(16,\)")])
def test_a_layer_that_is_not_the_bases_has_no_difference(llama, edited, change, why) -> None:
    adapted = open_sibling(edited("adapted", OTHER[change]), base=None)
    instruct = open_sibling(edited("instruct", OTHER["added"]), base=None)
    with pytest.raises(CheckpointError, match=why):
        layers(llama, adapted, instruct, 1.0)


@pytest.mark.parametrize("change", ["added", "shape"])
def test_a_layer_that_is_not_the_bases_needs_a_scale(llama, edited, change) -> None:
    adapted = open_sibling(edited("adapted", OTHER[change]), base=None)
    with pytest.raises(CheckpointError, match="adapted"):
        layers(llama, adapted, open_sibling(llama, base=None), None)


def test_a_quantized_layer_cannot_be_added_to(llama, edited) -> None:
    def quantized(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return tensors | {QUERY: tensors[QUERY].to(torch.float8_e4m3fn)}

    adapted = open_sibling(edited("adapted", plus(0.25, QUERY)), base=None)
    with pytest.raises(CheckpointError, match=rf"'{QUERY}' is stored as F8_E4M3.*use the unquantized checkpoint"):
        layers(llama, adapted, open_sibling(edited("instruct", quantized), base=None), 1.0)


def test_a_single_number_is_a_layer_too(llama, edited) -> None:
    """As the logit scale of a model with vision: a tensor without dimensions."""
    with_scale = edited("base", lambda tensors: tensors | {"logit_scale": torch.tensor(2.0)})
    adapted = edited("adapted", lambda tensors: tensors | {"logit_scale": torch.tensor(2.5)})
    instruct = open_sibling(with_scale, base=None)
    found = layers(with_scale, open_sibling(adapted, base=None), instruct, 2.0)
    assert found["logit_scale"] == 3.0
