"""Models on torch's `meta` device, built from config.json: parameter counts, FLOPs and activation memory.

Tensors on `meta` have shapes and no data, so a model of any size takes a second and no memory. Activation memory is
what autograd saves in a forward pass, so it is right for every architecture and every choice of trainable layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AttentionInterface, AutoConfig, AutoModelForCausalLM

from lep.errors import CheckpointError
from lep.estimation.costs import ParameterCounts
from lep.modeling.trainable_layers import TrainableLayers, get_embedding_parameter_ids
from lep.modeling.trainable_model import TrainableModel

_FUSED_ATTENTION = "lep_fused"
"""Name, in transformers, of an attention that keeps no scores, as fused kernels on a GPU do."""


@dataclass(frozen=True)
class MetaModel:
    """A model of which only the configuration and the vocabulary size are known."""

    folder: Path
    """A model folder with the same config.json."""
    vocab_size: int

    def build(
        self,
        *,
        dtype: str,
        fused_attention: bool,
        embeddings: Literal["none", "head", "both"] = "none",
        layers: TrainableLayers | None = None,
    ) -> TrainableModel:
        """Build the model on the `meta` device.

        Args:
            dtype: Type of the weights.
            fused_attention: Attention keeps no scores, as on a GPU.
            embeddings: Which embedding matrices are trained.
            layers: Which layers are trained, and how; None: none.

        Returns:
            The model and what is trained of it.

        Raises:
            CheckpointError: transformers has no such model.
        """
        try:
            config = AutoConfig.from_pretrained(self.folder, local_files_only=True)
            config.get_text_config().vocab_size = self.vocab_size
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(
                    config,
                    dtype=getattr(torch, dtype),
                    attn_implementation=_FUSED_ATTENTION if fused_attention else "eager",
                )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise CheckpointError(f"{self.folder}: transformers has no such model: {error}") from error
        return TrainableModel.with_whole_embeddings(model, embeddings, layers or TrainableLayers())


def count_parameters(model: TrainableModel) -> ParameterCounts:
    """Count the parameters of a model by how they are trained."""
    embedding_ids = get_embedding_parameter_ids(model.causal_lm)
    trainable = sum(weight.numel() for weight in model.layer_parameters.values())
    total = sum(weight.numel() for weight in model.causal_lm.parameters() if id(weight) not in embedding_ids)
    return ParameterCounts(
        frozen=total - trainable,
        trainable=trainable,
        embedding=model.head_size,
        num_embedding_matrices=len(embedding_ids),
    )


def estimate_flops_per_token(model: TrainableModel, *, sequence_length: int, gradient_checkpointing: bool) -> float:
    """Estimate the FLOPs per token of a training step, recomputed activations included.

    Args:
        model: The model, on any device.
        sequence_length: Tokens in a sample.
        gradient_checkpointing: The forward pass of the layers is computed twice.

    Returns:
        The number of operations; see `TrainableModel.flops_per_token`.
    """
    recomputed = 2 * model.count_active_layer_parameters() * gradient_checkpointing
    return model.flops_per_token(sequence_length=sequence_length) + recomputed


def compute_activation_bytes(
    model: TrainableModel, *, batch_size: int, sequence_length: int, dtype: str, gradient_checkpointing: bool
) -> int:
    """Compute the memory that a forward pass through the layers keeps for the backward pass, without the weights.

    Args:
        model: A model on the `meta` device; its trained layer parameters are cast to `dtype`.
        batch_size: Samples in the pass.
        sequence_length: Tokens in a sample.
        dtype: Type that the layers compute in.
        gradient_checkpointing: Only the inputs of each layer are kept, and the activations of one layer at a time.

    Returns:
        The number of bytes.
    """
    causal_lm = model.causal_lm
    embedding: Any = causal_lm.get_input_embeddings().weight
    embedding.requires_grad_()
    compute_dtype = getattr(torch, dtype)
    for weight in model.layer_parameters.values():
        weight.data = weight.data.to(compute_dtype)
    weight_storages = {weight.untyped_storage()._cdata for weight in (*causal_lm.parameters(), *causal_lm.buffers())}
    saved: dict[int, Any] = {}

    def save(tensor: Tensor) -> Tensor:
        if (storage := tensor.untyped_storage())._cdata not in weight_storages:
            saved[storage._cdata] = storage
        return tensor

    ids = torch.zeros(batch_size, sequence_length, dtype=torch.int64, device="meta")
    # without a mask, transformers would read the values of the ids
    mask = torch.zeros(1, 1, sequence_length, sequence_length, dtype=compute_dtype, device="meta")
    with torch.autograd.graph.saved_tensors_hooks(save, _identity):
        causal_lm.base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    activation_bytes = sum(storage.nbytes() for storage in saved.values())
    if not gradient_checkpointing:
        return activation_bytes
    layer_count = len(model.decoder_layers)
    layer_input_bytes = batch_size * sequence_length * embedding.shape[1] * compute_dtype.itemsize
    return activation_bytes // layer_count + layer_count * layer_input_bytes


class _FusedAttention(torch.autograd.Function):
    """Attention for shapes only: saves queries, keys, values, the output and one number per query."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:  # type: ignore[override]
        raise NotImplementedError("tensors on meta have no gradient")


def _fused_attention(module: Any, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
    """Attention function of transformers: inputs are `batch × heads × tokens × dim`, heads and tokens swap after it."""
    groups = query.shape[1] // key.shape[1]
    repeat: Callable[[Tensor], Tensor] = lambda x: x.repeat_interleave(groups, dim=1) if groups > 1 else x  # noqa: E731
    return _FusedAttention.apply(query, repeat(key), repeat(value)).transpose(1, 2), None  # type: ignore[union-attr]


def _identity(tensor: Tensor) -> Tensor:
    return tensor


AttentionInterface.register(_FUSED_ATTENTION, _fused_attention)
