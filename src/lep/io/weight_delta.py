"""Weight deltas of single tensors: as a LoRA adapter stores them, or as the difference of two models.

Axes: a weight is out × in, or in × out for Conv1D layers; r is the adapter's rank; embeddings are rows × dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lep.errors import CheckpointError
from lep.io.safetensors_files import Checkpoint

DeltaFunction = Callable[[str], Tensor | None]
"""Returns the delta of a tensor by its name: float32, in the tensor's shape; `None` where it is unchanged."""

_BLOCK_ROWS = 1024


@dataclass(frozen=True)
class LowRankFactors:
    """scale · B·A, by the tensor names of the two factors, r × in and out × r."""

    lora_a: str
    lora_b: str
    scale: float
    transposed: bool
    """(B·A)ᵀ has the shape of the weight, as in peft's embeddings and the Conv1D layers of GPT-2."""


@dataclass(frozen=True)
class WeightDelta:
    """What an adapter changes in one tensor: replace it, add a low-rank product, set single rows, in this order."""

    weights: Checkpoint
    shape: tuple[int, ...]
    """Of the merged tensor: replaced embeddings may have more rows than the base's."""
    replacement: str | None = None
    low_rank: LowRankFactors | None = None
    token_rows: str | None = None
    token_ids: tuple[int, ...] = ()
    """Ids of `token_rows`."""

    def merge(self, weight: Tensor) -> Tensor:
        """Return W + scale·B·A, added in float32 and rounded once to the weight's dtype, as peft's `merge_and_unload`.

        Source: LoRA, arXiv 2106.09685, eq. 3.

        Args:
            weight: the base's tensor.

        Returns:
            The merged tensor, of the weight's dtype.

        Raises:
            CheckpointError: a tensor of the adapter holds a value that is not finite.
        """
        changed = weight if self.replacement is None else self._read_tensor(self.replacement).to(weight.dtype)
        if self.low_rank is not None:
            changed = add_delta(changed, self._compute_product(self.low_rank))
        if self.token_rows is not None:
            changed = changed.index_copy(
                0, torch.tensor(self.token_ids), self._read_tensor(self.token_rows).to(weight.dtype)
            )
        return changed

    def compute_delta(self, weight: Tensor) -> Tensor:
        """Return the difference to the base's weight in float32, not rounded to the weight's dtype.

        Args:
            weight: the base's tensor.

        Returns:
            The delta, of the weight's shape.

        Raises:
            CheckpointError: a tensor of the adapter holds a value that is not finite, or replaced embeddings have
                another number of rows than the base's.
        """
        if self.low_rank is not None and self.replacement is None and self.token_rows is None:
            return self._compute_product(self.low_rank)
        if self.shape != weight.shape:
            raise CheckpointError(
                f"{self.weights.shards[0]}: {self.replacement!r} has shape {self.shape}, in the base "
                f"{tuple(weight.shape)}: embeddings of two vocabularies have no difference"
            )
        return self.merge(weight.float()) - weight

    def components(self) -> tuple[Tensor, ...]:
        """Return all tensors of the delta, oriented as the weight: deltas with equal components are equal."""
        replacement, rows = (
            [] if name is None else [self._read_tensor(name)] for name in (self.replacement, self.token_rows)
        )
        product = [*self._read_factors(self.low_rank), torch.tensor(self.low_rank.scale)] if self.low_rank else []
        return (*replacement, *product, *rows, torch.tensor(self.token_ids))

    def _read_factors(self, product: LowRankFactors) -> tuple[Tensor, Tensor]:
        a, b = self._read_tensor(product.lora_a).float(), self._read_tensor(product.lora_b).float()
        return (a.T, b.T) if product.transposed else (b, a)

    def _compute_product(self, product: LowRankFactors) -> Tensor:
        left, right = self._read_factors(product)
        return (left @ right).mul_(product.scale)

    def _read_tensor(self, name: str) -> Tensor:
        tensor = self.weights.get_tensor(name)
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{self.weights.shards[0]}: tensor {name!r} holds a value that is not finite; "
                "its training diverged: take an earlier checkpoint"
            )
        return tensor


def add_delta(weight: Tensor, delta: Tensor, *, scale: float = 1.0) -> Tensor:
    """Return W + scale·Δ, computed in float32 block by block and rounded once to the weight's dtype.

    Source: task arithmetic, arXiv 2212.04089, section 2.

    Args:
        weight: W, any float dtype.
        delta: Δ, float32, of the same shape.
        scale: its factor.

    Returns:
        A new tensor of the weight's dtype.
    """
    result = torch.empty_like(weight)
    parts = (torch.atleast_1d(tensor).split(_BLOCK_ROWS) for tensor in (result, weight, delta))
    for block in zip(*parts, strict=True):
        torch.add(block[1], block[2], alpha=scale, out=block[0])
    return result


def build_task_vector(changed: Checkpoint, *, base: Checkpoint) -> DeltaFunction:
    """Return the task vector of a model as a function: W_changed − W_base in float32, `None` where they are equal.

    Source: task arithmetic, arXiv 2212.04089, section 2.

    Args:
        changed: the trained model.
        base: the model that it was trained from.

    Returns:
        A function of the tensor's name.

    Raises:
        CheckpointError: when the function is called: only one model has the tensor, or the shapes differ.
    """

    def delta(name: str) -> Tensor | None:
        new_info, old_info = changed.entries.get(name), base.entries.get(name)
        if new_info is None or old_info is None or new_info.shape != old_info.shape:
            shapes = [entry.shape if entry else "absent" for entry in (new_info, old_info)]
            raise CheckpointError(
                f"{changed.folder}: tensor {name!r} is {shapes[0]}, in {base.folder} {shapes[1]}; is that its base?"
            )
        new, old = changed.get_tensor(name), base.get_tensor(name)
        return None if torch.equal(new, old.to(new.dtype)) else new.float() - old

    return delta
