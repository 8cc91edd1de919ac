"""Every tensor of the file against the model: name, row order, values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.quants import dequantize
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from lep.errors import CheckpointError
from lep.gguf.export import ExportResult
from lep.gguf.weights import permute_rotary_rows

from .families import FAMILIES

NAMES = {
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


def gguf_name(name: str) -> str:
    stem, _, kind = name.rpartition(".")
    if stem in NAMES:
        return f"{NAMES[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[part]}.{kind}"


def read_tensors(result: ExportResult) -> dict[str, Tensor]:
    return {
        tensor.name: torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        for tensor in GGUFReader(result.file).tensors
    }


def permuted(rows: Tensor, heads: int) -> Tensor:
    """Rows of each head in the order 0, half, 1, half + 1, …"""
    size = len(rows) // heads
    order = [head * size + half * size // 2 + i for head in range(heads) for i in range(size // 2) for half in (0, 1)]
    return rows[order]


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tensor_is_written_once_and_exactly(name: str, family: Callable, exported: Callable) -> None:
    folder = family(name)
    stored, tensors = load_file(folder / "model.safetensors"), read_tensors(exported(folder, quantization="f32"))
    extra = {"rope_freqs.weight"} if name == "llama3_rope" else set()
    assert set(tensors) == {gguf_name(key) for key in stored} | extra
    for key, value in stored.items():
        heads = 4 if ".q_proj" in key else 2 if ".k_proj" in key else 0
        expected = permuted(value, heads) if heads and not name.startswith("qwen") else value
        assert torch.equal(tensors[gguf_name(key)].reshape(value.shape), expected), key


def test_permuted_rotary_rows() -> None:
    rows = torch.arange(16).reshape(16, 1)
    assert permute_rotary_rows(rows, head_count=2).flatten().tolist() == [
        0,
        4,
        1,
        5,
        2,
        6,
        3,
        7,
        8,
        12,
        9,
        13,
        10,
        14,
        11,
        15,
    ]


def test_rope_factors_equal_those_of_transformers(family: Callable, exported: Callable) -> None:
    factors = read_tensors(exported(family("llama3_rope")))["rope_freqs.weight"]
    scaled = AutoModelForCausalLM.from_pretrained(family("llama3_rope")).model.rotary_emb.inv_freq
    plain = 5e5 ** -(torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    torch.testing.assert_close(plain / factors, scaled.double(), rtol=1e-6, atol=0)
    assert factors[0] == 1 and factors[-1] == pytest.approx(8, rel=1e-6)


@pytest.mark.parametrize(("quantization", "error"), [("f16", 6e-4), ("bf16", 5e-3), ("q8_0", 5e-3)])
def test_matrices_have_the_requested_type_and_vectors_float32(
    quantization: str, error: float, family: Callable, exported: Callable
) -> None:
    result = exported(family("llama"), quantization=quantization)
    assert result.quantization == quantization and result.file.name == f"out-{quantization}.gguf"
    stored = {gguf_name(key): value for key, value in load_file(family("llama") / "model.safetensors").items()}
    types = {tensor.name: tensor.tensor_type.name.lower() for tensor in GGUFReader(result.file).tensors}
    assert types == {key: "f32" if value.ndim == 1 else quantization for key, value in stored.items()}
    largest = stored["output.weight"].abs().max()
    assert (read_tensors(result)["output.weight"] - stored["output.weight"]).abs().max() < error * largest
    assert len(result.file.read_bytes()) == result.size_bytes


@pytest.mark.parametrize(
    ("dtype", "quantization"), [(torch.float32, "f32"), (torch.bfloat16, "bf16"), (torch.float16, "f16")]
)
def test_the_default_quantization_keeps_the_values(
    dtype: torch.dtype, quantization: str, family: Callable, exported: Callable, tmp_path: Path
) -> None:
    folder = _copy_with_changed_tensors(family("llama"), tmp_path / "model", lambda key, value: value.to(dtype))
    result = exported(folder)
    assert result.quantization == quantization
    assert torch.equal(
        read_tensors(result)["token_embd.weight"],
        load_file(folder / "model.safetensors")["model.embed_tokens.weight"].float(),
    )


def test_values_beyond_float16_are_refused(family: Callable, exported: Callable, tmp_path: Path) -> None:
    large = _copy_with_changed_tensors(
        family("llama"), tmp_path / "large", lambda key, value: value * (1e6 if "up_proj" in key else 1)
    )
    with pytest.raises(
        CheckpointError, match=r"up_proj.weight' has values beyond the float16 maximum.*use quantization=bf16"
    ):
        exported(large, quantization="f16")
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_rows_that_do_not_divide_into_blocks_are_refused(
    make_model: Callable, tokenizers: dict, exported: Callable, tmp_path: Path
):
    folder = make_model(tmp_path / "folder", tokenizers["byte_level"])
    with pytest.raises(CheckpointError, match=r"down_proj.weight' have 48 values, which is not a multiple of 32"):
        exported(folder, quantization="q8_0")


def test_a_tensor_that_llama_cpp_lacks_is_named(family: Callable, exported: Callable, tmp_path: Path) -> None:
    folder = _copy_with_changed_tensors(family("llama"), tmp_path / "folder", lambda key, value: value)
    tensors = load_file(folder / "model.safetensors") | {"model.extra.weight": torch.ones(2, 2)}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"llama.cpp's llama has no tensor for 'model.extra.weight'"):
        exported(folder)


def _copy_with_changed_tensors(source: Path, target: Path, change: Callable[[str, Tensor], Tensor]) -> Path:
    target.mkdir()
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    tensors = {key: change(key, value) for key, value in load_file(source / "model.safetensors").items()}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target
