"""Map a model's tensors to the names, layout and types of a GGUF file; each is read when it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from gguf import MODEL_ARCH_NAMES, GGMLQuantizationType, get_tensor_name_map, quant_shape_to_byte_shape
from gguf.quants import quantize
from torch import Tensor
from transformers import PretrainedConfig

from lep.errors import CheckpointError
from lep.gguf.hyperparameters import INTERLEAVED_ROPE_ARCHITECTURES, compute_rope_factors
from lep.io.model_folder import ModelFolder

_Q8_0_BLOCK_SIZE = 32
"""Values that share one scale in q8_0."""
_ROTARY_PROJECTION_PATTERN = re.compile(r"\.(q|k)_proj\.(weight|bias)$")
_INV_FREQ_SUFFIX = ".rotary_emb.inv_freq"
"""Stored in old checkpoints, and computed from the configuration."""
_DTYPES = {
    GGMLQuantizationType.F32: torch.float32,
    GGMLQuantizationType.F16: torch.float16,
    GGMLQuantizationType.BF16: torch.bfloat16,
}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor to write."""

    name: str
    shape: tuple[int, ...]
    type: GGMLQuantizationType
    source_name: str | None = None
    """Name in the model folder; None: `values` has the data."""
    values: np.ndarray | None = None
    """Data of a tensor that the model folder does not have."""
    head_count: int | None = None
    """Heads of a query or key projection whose rows are permuted; None: rows keep their order."""

    @property
    def size_bytes(self) -> int:
        """Size in the file."""
        return prod(quant_shape_to_byte_shape(self.shape, self.type))


def build_gguf_tensors(
    model: ModelFolder, config: PretrainedConfig, *, architecture: str, matrix_type: GGMLQuantizationType
) -> list[GgufTensor]:
    """List all tensors of a model as they will be written.

    Args:
        model: The model folder.
        config: Its configuration.
        architecture: llama.cpp's name of the architecture.
        matrix_type: The type of matrices; vectors are float32.

    Returns:
        The tensors, without their data.

    Raises:
        CheckpointError: llama.cpp's architecture has no such tensor, a tensor is not floating-point, or its rows do
            not divide into blocks.
    """
    tensors = list(_map_stored_tensors(model, config, architecture=architecture, matrix_type=matrix_type))
    if (factors := compute_rope_factors(config)) is not None:
        tensors.append(GgufTensor("rope_freqs.weight", factors.shape, GGMLQuantizationType.F32, values=factors))
    return tensors


def _map_stored_tensors(
    model: ModelFolder, config: PretrainedConfig, *, architecture: str, matrix_type: GGMLQuantizationType
) -> Iterator[GgufTensor]:
    architecture_id = next(id_ for id_, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(architecture_id, config.num_hidden_layers)
    for source_name in model.checkpoint.entries:
        if source_name == model.duplicate_head_name or source_name.endswith(_INV_FREQ_SUFFIX):
            continue
        entry = model.checkpoint.get_float_info(source_name)
        name = names.get_name(source_name, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise CheckpointError(f"{entry.shard}: llama.cpp's {architecture} has no tensor for {source_name!r}")
        type_ = GGMLQuantizationType.F32 if len(entry.shape) == 1 else matrix_type
        if type_ == GGMLQuantizationType.Q8_0 and entry.shape[-1] % _Q8_0_BLOCK_SIZE:
            raise CheckpointError(
                f"{entry.shard}: rows of {source_name!r} have {entry.shape[-1]} values, which is not a multiple of "
                f"{_Q8_0_BLOCK_SIZE} as q8_0 needs; use quantization=f16"
            )
        head_count = _get_permuted_head_count(source_name, config, architecture)
        yield GgufTensor(name, entry.shape, type_, source_name=source_name, head_count=head_count)


def _get_permuted_head_count(source_name: str, config: PretrainedConfig, architecture: str) -> int | None:
    match = _ROTARY_PROJECTION_PATTERN.search(source_name)
    if not match or architecture not in INTERLEAVED_ROPE_ARCHITECTURES:
        return None
    return config.num_attention_heads if match[1] == "q" else config.num_key_value_heads


def load_tensor_data(model: ModelFolder, tensor: GgufTensor) -> np.ndarray:
    """Read a tensor and convert it to its type in the file.

    Args:
        model: The model folder.
        tensor: One of its tensors, from `build_gguf_tensors`.

    Returns:
        Raw bytes of the values; `tensor.values` as it is.

    Raises:
        CheckpointError: A value is beyond the range of float16.
    """
    if tensor.values is not None or tensor.source_name is None:
        return np.asarray(tensor.values)
    weight = model.checkpoint.get_tensor(tensor.source_name)
    if tensor.head_count:
        weight = permute_rotary_rows(weight, head_count=tensor.head_count)
    if tensor.type not in _DTYPES:
        return quantize(weight.float().numpy(), tensor.type)
    converted = weight.to(_DTYPES[tensor.type])
    if converted.dtype == torch.float16 and weight.dtype != torch.float16 and not converted.isfinite().all():
        shard = model.checkpoint.entries[tensor.source_name].shard
        raise CheckpointError(
            f"{shard}: {tensor.source_name!r} has values beyond the float16 maximum of 65,504; use quantization=bf16"
        )
    return converted.contiguous().view(torch.uint8).numpy()


def permute_rotary_rows(rows: Tensor, *, head_count: int) -> Tensor:
    """Reorder the rows of a query or key projection from the RoPE layout of transformers to that of llama.cpp.

    transformers rotates row i of a head with row i + head_dim / 2, llama.cpp with row i + 1.

    Args:
        rows: `head_count · head_dim` rows of a weight or values of a bias.
        head_count: Number of heads.

    Returns:
        The rows in the order of llama.cpp.

    Source: LlamaModel.permute of llama.cpp's conversion/llama.py.
    """
    return rows.reshape(head_count, 2, len(rows) // head_count // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
