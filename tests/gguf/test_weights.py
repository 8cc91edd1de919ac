"""Every tensor of the file against the model: its place, its order, its numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from gguf import GGUFReader
from gguf.quants import dequantize
from lep.errors import CheckpointError
from lep.gguf.export import Exported
from lep.gguf.weights import neighbours

from .families import FAMILIES

PLACES = {
    "model.embed_tokens": "token_embd",
    "lm_head": "output",
    "model.norm": "output_norm",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""llama.cpp's names, written down by hand."""


def place(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in PLACES:
        return f"{PLACES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{PLACES[part]}.{kind}"


def written(found: Exported) -> dict[str, Tensor]:
    return {
        tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        for tensor in GGUFReader(found.file).tensors
    }


def turned(rows: Tensor, heads: int) -> Tensor:
    """The order of rows in a head, spelt out: 0, half, 1, half + 1, …"""
    size = len(rows) // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return rows[order]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_is_there_once_and_whole(name: str, family: Callable, exported: Callable) -> None:
    folder = family(name)
    stored, found = load_file(folder / "model.safetensors"), written(exported(folder, quantization="f32"))
    extra = {"rope_freqs.weight"} if name == "waves" else set()
    assert set(found) == {place(key) for key in stored} | extra
    for key, value in stored.items():
        heads = 4 if ".q_proj" in key else 2 if ".k_proj" in key else 0
        expected = turned(value, heads) if heads and not name.startswith("qwen") else value
        assert torch.equal(found[place(key)].reshape(value.shape), expected), key


def test_neighbours_undo_halves() -> None:
    rows = torch.arange(16).reshape(16, 1)
    assert neighbours(rows, heads=2).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15]


def test_waves_are_slowed_as_transformers_does(family: Callable, exported: Callable) -> None:
    factors = written(exported(family("waves")))["rope_freqs.weight"]
    scaled = AutoModelForCausalLM.from_pretrained(family("waves")).model.rotary_emb.inv_freq
    plain = 5e5 ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    torch.testing.assert_close(plain / factors, scaled.double(), rtol=1e-6, atol=0)
    assert factors[0] == 1 and factors[-1] == pytest.approx(8, rel=1e-6)


@pytest.mark.parametrize(("quantization", "error"), [("f16", 6e-4), ("bf16", 5e-3), ("q8_0", 5e-3)])
def test_matrices_are_stored_as_asked_and_vectors_as_float32(
    quantization: str, error: float, family: Callable, exported: Callable
) -> None:
    found = exported(family("llama"), quantization=quantization)
    assert found.quantization == quantization and found.file.name == f"out-{quantization}.gguf"
    stored = {place(key): value for key, value in load_file(family("llama") / "model.safetensors").items()}
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in GGUFReader(found.file).tensors}
    assert types == {key: "f32" if value.ndim == 1 else quantization for key, value in stored.items()}
    largest = stored["output.weight"].abs().max()
    assert (written(found)["output.weight"] - stored["output.weight"]).abs().max() < error * largest
    assert len(found.file.read_bytes()) == found.bytes


@pytest.mark.parametrize(("dtype", "own"), [(torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.float16, "f16")])
def test_a_model_keeps_its_own_numbers_unasked(
    dtype: torch.dtype, own: str, family: Callable, exported: Callable, tmp_path: Path
) -> None:
    folder = _changed(family("llama"), tmp_path / "model", lambda key, value: value.to(dtype))
    found = exported(folder)
    assert found.quantization == own
    assert torch.equal(
        written(found)["token_embd.weight"],
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float(),
    )


def test_what_does_not_fit_is_refused(family: Callable, exported: Callable, tmp_path: Path) -> None:
    large = _changed(family("llama"), tmp_path / "large", lambda key, value: value * (1e6 if "up_proj" in key else 1))
    with pytest.raises(CheckpointError, match=r"up_proj.weight' holds numbers beyond float16's.*use quantization=bf16"):
        exported(large, quantization="f16")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_rows_that_do_not_divide_are_refused(
    make_model: Callable, tokenizers: dict, exported: Callable, tmp_path: Path
):
    odd = make_model(tmp_path / "odd", tokenizers["byte_level"])
    with pytest.raises(CheckpointError, match=r"down_proj.weight' have 48 numbers, and q8_0 packs them by 32"):
        exported(odd, quantization="q8_0")


def test_a_tensor_without_a_place_is_named(family: Callable, exported: Callable, tmp_path: Path) -> None:
    odd = _changed(family("llama"), tmp_path / "odd", lambda key, value: value)
    tensors = load_file(odd / "model.safetensors") | {"model.extra.weight": torch.ones(2, 2)}
    save_file(tensors, odd / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"llama.cpp's llama has no place for tensor 'model.extra.weight'"):
        exported(odd)


def _changed(source: Path, target: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = {key: change(key, value) for key, value in load_file(source / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target
