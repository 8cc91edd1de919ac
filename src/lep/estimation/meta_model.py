"""A model of which there are only shapes, from its config.json: what it weighs, does, and keeps for the way back.

It stands on torch's `meta` device, where tensors have shapes and no numbers: a model of any size takes a second and no
memory. What a pass keeps is counted by autograd itself, so it holds for every family and for whatever learns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM, PreTrainedModel

from lep.errors import CheckpointError
from lep.estimation.costs import Weights
from lep.modeling.flops import layer_weights, operations
from lep.modeling.trainable_layers import decoder_layers, learning_layers, table_parameters

_FUSED = "lep_fused"
"""transformers' name for attention that keeps no scores, as on a GPU."""


@dataclass(frozen=True)
class Sketch:
    """What is known of a model before it is there: whose configuration it has, and how many rows its tables get."""

    folder: Path
    """Of a model with this config.json."""
    rows: int

    def on_meta(self, *, dtype: str, fused: bool) -> PreTrainedModel:
        """The model, all shapes.

        Args:
            dtype: of its weights.
            fused: whether attention keeps no scores: on a GPU.

        Raises:
            CheckpointError: transformers has no such model.
        """
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True)
            config.get_text_config().vocab_size = self.rows
            with torch.device("meta"):
                return AutoModelForCausalLM.from_config(
                    config, dtype=getattr(torch, dtype), attn_implementation=_FUSED if fused else "eager"
                )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(f"{self.folder}: transformers knows no such model: {error}") from error


def weigh(model: PreTrainedModel) -> Weights:
    """Count a model's numbers, once it is decided what learns in its layers."""
    tables, learning = table_parameters(model), sum(weight.numel() for weight in learning_layers(model).values())
    others = sum(weight.numel() for weight in model.parameters() if id(weight) not in tables)
    table: Any = model.get_input_embeddings().weight
    return Weights(frozen=others - learning, learning=learning, table=table.numel(), tables=len(tables))


def sketched_operations(model: PreTrainedModel, weights: Weights, *, learn: float, block: int, twice: bool) -> float:
    """Operations of a token in training; see `lep.modeling.flops`.

    Args:
        model: on any device.
        weights: its numbers.
        learn: share of the rows of a table that learn.
        block: tokens in a sample.
        twice: whether layers are computed twice to save memory.
    """
    learning = round(weights.table * learn)
    once = operations(model, learning_head=learning, frozen_head=weights.table - learning, block=block)
    return once + 2 * layer_weights(model) * twice


def kept_bytes(model: PreTrainedModel, *, samples: int, block: int, dtype: str, twice: bool) -> int:
    """Bytes that one pass through the layers keeps for the way back, beside the weights.

    Args:
        model: on meta, with what learns decided; all of that is cast to `dtype`.
        samples: in the pass.
        block: tokens of each.
        dtype: that the layers compute in.
        twice: keep what enters a layer, and of one layer at a time what is inside.
    """
    table: Any = model.get_input_embeddings().weight
    table.requires_grad_()
    computed = getattr(torch, dtype)
    for weight in learning_layers(model).values():
        weight.data = weight.data.to(computed)
    own = {weight.untyped_storage()._cdata for weight in (*model.parameters(), *model.buffers())}
    kept: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (memory := tensor.untyped_storage())._cdata not in own:
            kept[memory._cdata] = memory
        return tensor

    ids = torch.zeros(samples, block, dtype=torch.int64, device="meta")
    mask = torch.zeros(1, 1, block, block, dtype=computed, device="meta")  # else its numbers would be looked at
    with torch.autograd.graph.saved_tensors_hooks(keep, _as_it_is):
        model.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    found = sum(memory.nbytes() for memory in kept.values())
    if not twice:
        return found
    layers = len(decoder_layers(model))
    return found // layers + layers * samples * block * table.shape[1] * computed.itemsize


class _Fused(torch.autograd.Function):
    """Attention of which only shapes matter: keeps queries, keys, values, what comes out, and a number a row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        raise NotImplementedError("shapes have no gradient")


def _fused_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """As transformers calls attention: heads before tokens in, after them out."""
    groups = query.shape[1] // key.shape[1]
    wide: Callable[[Tensor], Tensor] = lambda it: it.repeat_interleave(groups, dim=1) if groups > 1 else it  # noqa: E731
    return _Fused.apply(query, wide(key), wide(value)).transpose(1, 2), None  # type: ignore[union-attr]


def _as_it_is(tensor: Tensor) -> Tensor:
    return tensor


AttentionInterface.register(_FUSED, _fused_attention)
