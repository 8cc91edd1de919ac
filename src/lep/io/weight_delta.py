"""What training added to a model's tensors, one at a time: as an adapter stores it, or as a difference of two models.

Axes: a weight is out × in, or in × out where the model stores it so; r is the adapter's rank; a table is rows × dim.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from lep.errors import CheckpointError
from lep.io.safetensors_files import Checkpoint

Changes = Callable[[str], Tensor | None]
"""What is to be added to a tensor, by its name: float32, in the tensor's shape; None where nothing is."""

_ROWS = 1024


@dataclass(frozen=True)
class LowRank:
    """scale · B·A, by the names of the two factors, r × in and out × r."""

    a: str
    b: str
    scale: float
    transposed: bool
    """It is (B·A)ᵀ that fits the weight, as peft stores embeddings, and transformers the layers of GPT-2."""


@dataclass(frozen=True)
class Change:
    """What an adapter does to one tensor: replace it, add a product of low rank, set single rows; in that order."""

    weights: Checkpoint
    shape: tuple[int, ...]
    """Afterwards: a table that is replaced may have other rows than the base's."""
    whole: str | None = None
    low_rank: LowRank | None = None
    rows: str | None = None
    ids: tuple[int, ...] = ()
    """Of `rows`."""

    def merged(self, weight: Tensor) -> Tensor:
        """W + scale·B·A, added in float32 and rounded once to the weight's dtype, as peft's `merge_and_unload` does.

        Raises:
            CheckpointError: a tensor of the adapter holds a value that is not finite.

        Source: LoRA, arXiv 2106.09685, eq. 3.
        """
        changed = weight if self.whole is None else self._read(self.whole).to(weight.dtype)
        if self.low_rank is not None:
            changed = add(changed, self._product(self.low_rank))
        if self.rows is not None:
            changed = changed.index_copy(0, torch.tensor(self.ids), self._read(self.rows).to(weight.dtype))
        return changed

    def delta(self, weight: Tensor) -> Tensor:
        """The same as a difference to the base's weight, in float32, not rounded to the weight's dtype.

        Raises:
            CheckpointError: as `merged`; or a table has other rows than the base's.
        """
        if self.low_rank is not None and self.whole is None and self.rows is None:
            return self._product(self.low_rank)
        if self.shape != weight.shape:
            raise CheckpointError(
                f"{self.weights.shards[0]}: {self.whole!r} has shape {self.shape}, in the base {tuple(weight.shape)}: "
                "between tables of two vocabularies there is no difference"
            )
        return self.merged(weight.float()) - weight

    def parts(self) -> tuple[Tensor, ...]:
        """All that it is made of, each tensor laid out as the weight: changes with equal parts are equal."""
        whole, rows = ([] if name is None else [self._read(name)] for name in (self.whole, self.rows))
        product = [*self._factors(self.low_rank), torch.tensor(self.low_rank.scale)] if self.low_rank else []
        return (*whole, *product, *rows, torch.tensor(self.ids))

    def _factors(self, product: LowRank) -> tuple[Tensor, Tensor]:
        a, b = self._read(product.a).float(), self._read(product.b).float()
        return (a.T, b.T) if product.transposed else (b, a)

    def _product(self, product: LowRank) -> Tensor:
        left, right = self._factors(product)
        return (left @ right).mul_(product.scale)

    def _read(self, name: str) -> Tensor:
        tensor = self.weights.tensor(name)
        if not tensor.isfinite().all():
            raise CheckpointError(
                f"{self.weights.shards[0]}: tensor {name!r} holds a value that is not finite; "
                "its training diverged: take an earlier checkpoint"
            )
        return tensor


def add(weight: Tensor, delta: Tensor, *, scale: float = 1.0) -> Tensor:
    """W + scale·Δ, computed in float32 a block of rows at a time, and rounded once to the weight's dtype.

    Source: METHOD §2.4; task arithmetic, arXiv 2212.04089, §2.
    """
    result = torch.empty_like(weight)
    parts = (torch.atleast_1d(tensor).split(_ROWS) for tensor in (result, weight, delta))
    for block in zip(*parts, strict=True):
        torch.add(block[1], block[2], alpha=scale, out=block[0])
    return result


def difference(changed: Checkpoint, *, base: Checkpoint) -> Changes:
    """The task vector of a merged model: W_changed − W_base in float32, None where they are equal.

    Raises (when called):
        CheckpointError: a tensor that only one of them has, or of another shape.

    Source: task arithmetic, arXiv 2212.04089, §2.
    """

    def delta(name: str) -> Tensor | None:
        ours, theirs = changed.entries.get(name), base.entries.get(name)
        if ours is None or theirs is None or ours.shape != theirs.shape:
            shapes = [entry.shape if entry else "absent" for entry in (ours, theirs)]
            raise CheckpointError(
                f"{changed.folder}: tensor {name!r} is {shapes[0]}, in {base.folder} {shapes[1]}; is that its base?"
            )
        new, old = changed.tensor(name), base.tensor(name)
        return None if torch.equal(new, old.to(new.dtype)) else new.float() - old

    return delta
