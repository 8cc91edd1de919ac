"""Random vocabulary maps, and T as a dense matrix."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lep.core.vocabulary import VocabularyMap


@pytest.fixture
def random_map() -> Callable[..., VocabularyMap]:
    """`random_map(old=, new=, seed=0, missing=0)`: a third shared, the rest of 2 to 5 old tokens."""
    return _random_map


@pytest.fixture
def dense() -> Callable[[VocabularyMap], Tensor]:
    """T as a `new × old` float64 matrix."""
    return _dense


def _random_map(*, old: int, new: int, seed: int = 0, missing: int = 0) -> VocabularyMap:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.arange(new) % 3 == 0
    lengths = torch.where(shared, 1, torch.randint(2, 6, (new,), generator=generator))
    for id_ in range(1, 1 + 3 * missing, 3):
        lengths[id_] = 0
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    segmentation = torch.randint(0, old, (int(lengths.sum()),), generator=generator)
    if new > 4 and lengths[4]:
        segmentation[offsets[4] : offsets[5]] = segmentation[offsets[4]]
    return VocabularyMap(segmentation=segmentation, offsets=offsets, shared=shared, old_size=old)


def _dense(mapping: VocabularyMap) -> Tensor:
    matrix = torch.zeros(mapping.new_size, mapping.old_size, dtype=torch.float64)
    for row in range(mapping.new_size):
        ids = mapping.segmentation[mapping.offsets[row] : mapping.offsets[row + 1]].tolist()
        for id_ in ids:
            matrix[row, id_] += 1 / len(ids)
    return matrix
