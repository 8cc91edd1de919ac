"""A model's tensors as a GGUF file names, orders and stores them; each is read when it is written."""

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
from lep.gguf.hyperparameters import INTERLEAVED, rope_factors
from lep.io.model_folder import ModelFolder

_BLOCK = 32
"""Numbers that share one scale in q8_0."""
_TURNED = re.compile(r"\.(q|k)_proj\.(weight|bias)$")
_NOT_STORED = ".rotary_emb.inv_freq"
"""Computed from the configuration; old checkpoints hold it too."""
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
    stored: str | None = None
    """Its name in the model folder."""
    values: np.ndarray | None = None
    """What it holds, where it is not stored."""
    heads: int | None = None
    """Of a query or key whose halves become neighbours."""

    @property
    def bytes(self) -> int:
        """What it takes in the file."""
        return prod(quant_shape_to_byte_shape(self.shape, self.type))


def gguf_tensors(
    model: ModelFolder, config: PretrainedConfig, *, architecture: str, type_: GGMLQuantizationType
) -> list[GgufTensor]:
    """All tensors of a model: matrices of the wanted type, vectors as float32.

    Raises:
        CheckpointError: a tensor that the architecture does not have, one that is no float, or one whose rows do not
            divide into blocks.
    """
    found = list(_stored(model, config, architecture=architecture, type_=type_))
    if (factors := rope_factors(config)) is not None:
        name = "rope_freqs.weight"
        found.append(GgufTensor(name, factors.shape, GGMLQuantizationType.F32, values=factors))
    return found


def _stored(
    model: ModelFolder, config: PretrainedConfig, *, architecture: str, type_: GGMLQuantizationType
) -> Iterator[GgufTensor]:
    number = next(id_ for id_, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(number, config.num_hidden_layers)
    for stored in model.checkpoint.entries:
        if stored == model.duplicate_head or stored.endswith(_NOT_STORED):
            continue
        entry, name = model.checkpoint.floats(stored), names.get_name(stored, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise CheckpointError(f"{entry.shard}: llama.cpp's {architecture} has no place for tensor {stored!r}")
        own = GGMLQuantizationType.F32 if len(entry.shape) == 1 else type_
        if own == GGMLQuantizationType.Q8_0 and entry.shape[-1] % _BLOCK:
            raise CheckpointError(
                f"{entry.shard}: rows of {stored!r} have {entry.shape[-1]} numbers, and q8_0 packs them by {_BLOCK}: "
                "use quantization=f16"
            )
        yield GgufTensor(name, entry.shape, own, stored=stored, heads=_heads(stored, config, architecture))


def _heads(stored: str, config: PretrainedConfig, architecture: str) -> int | None:
    turned = _TURNED.search(stored)
    if not turned or architecture not in INTERLEAVED:
        return None
    return config.num_attention_heads if turned[1] == "q" else config.num_key_value_heads


def data(model: ModelFolder, tensor: GgufTensor) -> np.ndarray:
    """What is written of a tensor.

    Raises:
        CheckpointError: a number that float16 cannot hold.
    """
    if tensor.values is not None or tensor.stored is None:
        return np.asarray(tensor.values)
    found = model.checkpoint.tensor(tensor.stored)
    if tensor.heads:
        found = neighbours(found, heads=tensor.heads)
    if tensor.type not in _DTYPES:
        return quantize(found.float().numpy(), tensor.type)
    cast = found.to(_DTYPES[tensor.type])
    if cast.dtype == torch.float16 and found.dtype != torch.float16 and not cast.isfinite().all():
        shard = model.checkpoint.entries[tensor.stored].shard
        raise CheckpointError(
            f"{shard}: {tensor.stored!r} holds numbers beyond float16's 65,504: use quantization=bf16"
        )
    return cast.contiguous().view(torch.uint8).numpy()


def neighbours(rows: Tensor, *, heads: int) -> Tensor:
    """Rows of a query or key, reordered: transformers turns row i of a head with row i + half, llama.cpp with i + 1.

    Args:
        rows: heads × size rows; the order of what lies in them stays.
        heads: how many heads the rows are of.

    Source: LlamaModel.permute of llama.cpp's conversion/llama.py.
    """
    return rows.reshape(heads, 2, len(rows) // heads // 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
