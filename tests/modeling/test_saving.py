"""A written model computes what the trained one does, adapters merged; what was not trained keeps its bytes."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from lep.errors import CheckpointError
from lep.io.model_folder import find_stored_tensors, open_model
from lep.modeling.loading import load_model
from lep.modeling.saving import write_trained_model
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"
LAYERS = 3
IDS = torch.arange(24).reshape(2, 12) * 7 % 400

TRAINABLE = list(product(("lora", "dora", "none"), ("all", "first_last"), ("none", "head", "both")))
FOLDERS = list(product(("tied", "untied"), ("float32", "bfloat16")))


@pytest.fixture(scope="module")
def folders(tokenizers, make_model, tmp_path_factory) -> dict[tuple[str, str], Path]:
    root = tmp_path_factory.mktemp("saving")
    folders = {}
    for kind, dtype in FOLDERS:
        path, shards = root / f"{kind}-{dtype}", 1 if kind == "tied" else 3
        make_model(
            path, tokenizers["byte_level"], tied=kind == "tied", dtype=dtype, layers=LAYERS, shards=shards, seed=5
        )
        folders[kind, dtype] = path
    return folders


def prepare(folder: Path, adapter: Any, layers: Any, embeddings: Any, *, dtype: str) -> TrainableModel:
    selection = TrainableLayers(layers, adapter, lora_rank=3, lora_alpha=6)
    return TrainableModel.with_whole_embeddings(load_model(folder, dtype=dtype), embeddings, selection)


def train(folder: Path, adapter: str, layers: str, embeddings: str, *, dtype: str) -> TrainableModel:
    """A model after a training: what is trained differs from what it was."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = prepare(folder, adapter, layers, embeddings, dtype=dtype)
        for weight in model.parameters.values():
            assert weight.dtype == torch.float32
            weight.data += torch.randn_like(weight) * 0.3 * weight.abs().mean().clamp(min=0.1)
    return model


@torch.no_grad()
def logits(model: Any, *, dtype: str) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"):
        return model.eval()(IDS).logits.float()


@pytest.mark.parametrize(("kind", "dtype"), FOLDERS)
@pytest.mark.parametrize(("adapter", "layers", "embeddings"), TRAINABLE)
def test_the_merged_model_equals_the_trained_one(folders, tmp_path, kind, dtype, adapter, layers, embeddings) -> None:
    folder = folders[kind, dtype]
    model = train(folder, adapter, layers, embeddings, dtype=dtype)
    expected, before = logits(model.module, dtype=dtype), logits(load_model(folder, dtype=dtype), dtype=dtype)
    write_trained_model(model, open_model(folder), tmp_path)
    merged = logits(load_model(tmp_path, dtype=dtype), dtype=dtype)
    error, change = ((other - expected).norm() / expected.norm() for other in (merged, before))
    assert error < (1e-6 if dtype == "float32" else 0.02), error
    assert change > 0.1, change


@pytest.mark.parametrize("kind", ["tied", "untied"])
@pytest.mark.parametrize(("adapter", "layers", "embeddings"), TRAINABLE)
def test_what_is_not_trained_keeps_its_bytes(folders, tmp_path, kind, adapter, layers, embeddings) -> None:
    folder = folders[kind, "bfloat16"]
    write_trained_model(train(folder, adapter, layers, embeddings, dtype="bfloat16"), open_model(folder), tmp_path)
    before, after = stored(folder), stored(tmp_path)
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        assert torch.equal(tensor, after[name]) is not is_trained(name, kind, adapter, layers, embeddings), name
    assert open_model(tmp_path).tied is (kind == "tied")


def stored(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def is_trained(name: str, kind: str, adapter: str, layers: str, embeddings: str) -> bool:
    if name == EMBED:
        return embeddings == "both" or (embeddings == "head" and kind == "tied")
    if name == HEAD:
        return embeddings != "none"
    number = name.split(".")[2] if ".layers." in name else ""
    inside = layers == "all" or number in ("0", str(LAYERS - 1))
    return inside and (adapter == "none" or "norm" not in name)


def test_untouched_shards_are_links(folders, tmp_path) -> None:
    folder = folders["untied", "float32"]
    write_trained_model(train(folder, "lora", "first_last", "head", dtype="float32"), open_model(folder), tmp_path)
    same = [file.name for file in folder.glob("*.safetensors") if (tmp_path / file.name).exists()]
    assert any((tmp_path / name).samefile(folder / name) for name in same)


def test_dora_starts_as_the_model_was(folders) -> None:
    """In half precision, too, where peft's own row norms are rounded."""
    folder = folders["untied", "bfloat16"]
    before = {name: weight.clone() for name, weight in load_model(folder, dtype="bfloat16").named_parameters()}
    updates = prepare(folder, "dora", "all", "none", dtype="bfloat16").weight_updates()
    assert updates
    for name, update in updates.items():
        torch.testing.assert_close(update(before[name]), before[name].float(), rtol=1e-5, atol=0)


def test_weights_that_are_not_stored_as_such_are_refused(folders) -> None:
    folder = folders["untied", "float32"]
    causal_lm = load_model(folder, dtype="float32")
    causal_lm.model.layers[0].register_parameter("gate", torch.nn.Parameter(torch.zeros(2)))
    model = TrainableModel.with_whole_embeddings(causal_lm, "both", TrainableLayers("all"))
    with pytest.raises(CheckpointError, match=r"'model.layers.0.gate' is trainable, but no stored tensor"):
        find_stored_tensors(open_model(folder), model.weight_updates())
