"""Deltas are added in float32, scaled, and rounded once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lep.errors import CheckpointError
from lep.io.lora_adapter import open_adapter
from lep.io.model_folder import open_model
from lep.io.safetensors_files import Checkpoint, open_checkpoint
from lep.io.weight_delta import add_delta, build_task_vector

QUERY, NORM = "model.layers.1.self_attn.q_proj.weight", "model.norm.weight"


def write_checkpoint(folder: Path, **tensors: torch.Tensor) -> Checkpoint:
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    return open_checkpoint(folder)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("scale", [1.0, 0.3, 0.0])
def test_a_sum_is_rounded_once(dtype, scale) -> None:
    random = torch.Generator().manual_seed(0)
    weight, delta = (torch.randn(64, 32, generator=random) for _ in range(2))
    weight, delta = weight.to(dtype), delta * 0.01
    result = add_delta(weight, delta, scale=scale)
    assert result.dtype == dtype
    torch.testing.assert_close(result, (weight.double() + scale * delta.double()).to(dtype), rtol=0, atol=1e-6)
    assert dtype == torch.float32 or torch.equal(result, (weight.float() + scale * delta).to(dtype))
    assert scale or torch.equal(result, weight)


def test_the_difference_of_a_merged_model_is_what_the_adapter_adds(make_base, make_adapter, tmp_path) -> None:
    base = open_model(make_base(tmp_path / "base"))
    adapter = open_adapter(make_adapter(base.path, tmp_path / "adapter", target_modules=["q_proj"]), base=base)
    merged = {name: adapter.get_tensor(name).clone() for name in base.checkpoint.entries}
    get_delta = build_task_vector(write_checkpoint(tmp_path / "merged", **merged), base=base.checkpoint)
    torch.testing.assert_close(get_delta(QUERY), adapter.get_delta(QUERY), rtol=0, atol=1e-7)
    assert get_delta(NORM) is None and adapter.get_delta(NORM) is None


def test_base_plus_delta_is_the_changed_model(tmp_path) -> None:
    old, new = torch.randn(2, 1500, 4, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
    delta = build_task_vector(
        write_checkpoint(tmp_path / "new", w=new), base=write_checkpoint(tmp_path / "old", w=old)
    )("w")
    assert delta is not None and delta.dtype == torch.float32
    assert torch.equal(add_delta(old, delta), new)


def test_tensors_of_different_shape_are_named(tmp_path) -> None:
    old = write_checkpoint(tmp_path / "old", w=torch.zeros(2, 2), only=torch.zeros(2))
    get_delta = build_task_vector(write_checkpoint(tmp_path / "new", w=torch.zeros(3, 2)), base=old)
    with pytest.raises(CheckpointError, match=r"tensor 'w' is \(3, 2\), in .*old \(2, 2\); is that its base"):
        get_delta("w")
    with pytest.raises(CheckpointError, match=r"'only' is absent, in .*old \(2,\)"):
        get_delta("only")


def test_a_saved_module_has_a_delta_too(make_base, make_adapter, tmp_path) -> None:
    base = open_model(make_base(tmp_path / "base", dtype="bfloat16"))
    settings = {"target_modules": ["q_proj"], "modules_to_save": ["norm"], "trainable_token_indices": [3, 1]}
    adapter = open_adapter(make_adapter(base.path, tmp_path / "adapter", **settings), base=base)
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")[f"base_model.model.{NORM}"]
    norm = adapter.get_delta(NORM)
    assert norm is not None and torch.equal(norm, saved.float() - base.checkpoint.get_tensor(NORM))
    rows = adapter.get_delta(base.embedding_names.embed)
    assert rows is not None and rows.abs().sum(dim=1).nonzero().flatten().tolist() == [1, 3]
