"""The model that is written, adapters merged in, is the one that learnt; what did not learn keeps its bytes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lep.config import Tuning
from lep.errors import CheckpointError
from lep.io.model_folder import open_model
from lep.modeling.loading import load_model
from lep.modeling.saving import let_learn, write_learnt
from lep.modeling.trainable_layers import learning_layers, learnt_weights

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYERS = 3
IDS = torch.arange(24).reshape(2, 12) * 7 % 400

LEARN = list(product(("lora", "dora", "none"), ("all", "first_last"), ("frozen", "head", "both")))
FOLDERS = list(product(("tied", "untied"), ("float32", "bfloat16")))


@pytest.fixture(scope="module")
def folders(tokenizers, make_model, tmp_path_factory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("learnt")
    found = {}
    for kind, dtype in FOLDERS:
        path, shards = root / f"{kind}-{dtype}", 1 if kind == "tied" else 3
        make_model(
            path, tokenizers["byte_level"], tied=kind == "tied", dtype=dtype, layers=LAYERS, shards=shards, seed=5
        )
        found[kind, dtype] = path
    return found


def settings(model: Path, **changes: Any) -> Tuning:
    return Tuning.model_validate({"model": model, "lora_rank": 3, "lora_alpha": 6} | changes)


def learning(model: Path, wanted: Tuning, *, dtype: str) -> Any:
    """A model after a training: what learns is other than it was."""
    loaded = load_model(model, dtype=dtype)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        let_learn(loaded, wanted, source=open_model(model))
        for weight in {id(weight): weight for weight in loaded.parameters() if weight.requires_grad}.values():
            assert weight.dtype == torch.float32
            weight.data += torch.randn_like(weight) * 0.3 * weight.abs().mean().clamp(min=0.1)
    return loaded


@torch.no_grad()
def logits(model: Any, *, dtype: str) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        return model.eval()(IDS).logits.float()


@pytest.mark.parametrize(("kind", "dtype"), FOLDERS)
@pytest.mark.parametrize(("adapters", "layers", "tables"), LEARN)
def test_the_merged_model_equals_the_unmerged_one(folders, tmp_path, kind, dtype, adapters, layers, tables) -> None:
    folder = folders[kind, dtype]
    model = learning(folder, settings(folder, adapters=adapters, layers=layers, tables=tables), dtype=dtype)
    expected, before = logits(model, dtype=dtype), logits(load_model(folder, dtype=dtype), dtype=dtype)
    write_learnt(model, open_model(folder), tmp_path)
    found = logits(load_model(tmp_path, dtype=dtype), dtype=dtype)
    off, learnt = ((other - expected).norm() / expected.norm() for other in (found, before))
    assert off < (1e-6 if dtype == "float32" else 0.02), off
    assert learnt > 0.1, learnt


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize(("adapters", "layers", "tables"), LEARN)
def test_what_does_not_learn_keeps_its_bytes(folders, tmp_path, kind, adapters, layers, tables) -> None:
    folder = folders[kind, "bfloat16"]
    write_learnt(
        learning(folder, settings(folder, adapters=adapters, layers=layers, tables=tables), dtype="bfloat16"),
        open_model(folder),
        tmp_path,
    )
    before, after = stored(folder), stored(tmp_path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) is not learns(name, kind, adapters, layers, tables), name
    assert open_model(tmp_path).tied is (kind == "tied")


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def learns(name: str, kind: str, adapters: str, layers: str, tables: str) -> bool:
    if name == EMBED:
        return tables == "both" or (tables == "head" and kind == "tied")
    if name == HEAD:
        return tables != "frozen"
    number = name.split(".")[2] if ".layers." in name else ""
    inside = layers == "all" or number in ("0", str(LAYERS - 1))
    return inside and (adapters == "none" or "norm" not in name)


def test_untouched_shards_are_links(folders, tmp_path) -> None:
    folder = folders["untied", "float32"]
    model = learning(folder, settings(folder, layers="first_last", tables="head"), dtype="float32")
    write_learnt(model, open_model(folder), tmp_path)
    same = [file.name for file in folder.glob("*.safetensors") if (tmp_path / file.name).exists()]
    assert any((tmp_path / name).samefile(folder / name) for name in same)


def test_dora_starts_as_the_model_was(folders) -> None:
    """In half precision, too, where peft's own lengths of rows are rounded."""
    folder = folders["untied", "bfloat16"]
    model = load_model(folder, dtype="bfloat16")
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    let_learn(model, settings(folder, adapters="dora", tables="frozen"), source=open_model(folder))
    for name, became in learnt_weights(model).items():
        torch.testing.assert_close(became(before[name]), before[name].float(), rtol=1e-5, atol=0)


def test_tied_tables_stay_one_parameter(folders) -> None:
    folder = folders["tied", "bfloat16"]
    model = load_model(folder, dtype="bfloat16")
    let_learn(model, settings(folder, tables="head"), source=open_model(folder))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert model.lm_head.weight.requires_grad and model.lm_head.weight.dtype == torch.float32
    assert all("lora" in name for name in learning_layers(model))


def test_what_has_no_place_in_the_folder_is_refused_before_training(folders) -> None:
    folder = folders["untied", "float32"]
    model = load_model(folder, dtype="float32")
    model.model.layers[0].register_parameter("gate", torch.nn.Parameter(torch.zeros(2)))
    with pytest.raises(CheckpointError, match=r"'model.layers.0.gate' would learn, and no tensor"):
        let_learn(model, settings(folder, adapters="none"), source=open_model(folder))
