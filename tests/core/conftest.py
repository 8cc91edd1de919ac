"""Vocabulary maps by chance, and T written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lep.core.vocabulary import VocabularyMap


@pytest.fixture
def random_map() -> Callable[..., VocabularyMap]:
    """`random_map(old=, new=, seed=0, missing=0)`: a third shared, the rest of 2 to 5 pieces with repeats."""
    return _random_map


@pytest.fixture
def dense() -> Callable[[VocabularyMap], Tensor]:
    """T as a `new × old` float64 matrix."""
    return _dense


def _random_map(*, old: int, new: int, seed: int = 0, missing: int = 0) -> VocabularyMap:
    chance = torch.Generator().manual_seed(seed)
    shared = torch.arange(new) % 3 == 0
    lengths = torch.where(shared, 1, torch.randint(2, 6, (new,), generator=chance))
    for id_ in range(1, 1 + 3 * missing, 3):
        lengths[id_] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    pieces = torch.randint(0, old, (int(lengths.sum()),), generator=chance)
    if new > 4 and lengths[4]:
        pieces[offsets[4] : offsets[5]] = pieces[offsets[4]]
    return VocabularyMap(pieces=pieces, offsets=offsets, shared=shared, old_size=old)


def _dense(found: VocabularyMap) -> Tensor:
    matrix = torch.zeros(found.new_size, found.old_size, dtype=torch.float64)
    for row in range(found.new_size):
        ids = found.pieces[found.offsets[row] : found.offsets[row + 1]].tolist()
        for id_ in ids:
            matrix[row, id_] += 1 / len(ids)
    return matrix
