"""Rows of an embedding matrix that training never updated: short, equal to another row, or near the unused ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix, iter_row_blocks

SHORT_NORM_RATIO = 0.1
"""A row is short below this fraction of the median norm."""
DUPLICATE_DISTANCE_RATIO = 1e-3
"""Two rows are equal where their distance is below this fraction of their norm."""
MIN_UNUSED_ROWS = 8
"""Fewer rows of unused ids do not show what an untrained row looks like."""
_UNUSED_DISTANCE_QUANTILE = 0.9
_SAMPLED_ROWS = 4096


def is_short(norms: Float[Tensor, " rows"], *, median_norm: float | Tensor) -> Bool[Tensor, " rows"]:
    """Return which rows are short: below `SHORT_NORM_RATIO` of the median norm."""
    return norms < SHORT_NORM_RATIO * median_norm


def is_near_unused(
    distances: Float[Tensor, " rows"], *, used: Bool[Tensor, " rows"], unused: Bool[Tensor, " rows"]
) -> Bool[Tensor, " rows"] | None:
    """Return which used rows are at most as far from the mean of the unused rows as 90 % of the unused rows are.

    Source: Land and Bartolo, arXiv 2405.05417; they verify such candidates with the model, which is not done here.

    Args:
        distances: distance of each row to the mean of the unused rows.
        used: rows of tokens that texts use.
        unused: rows of ids that no text uses.

    Returns:
        A mask over all rows; `None` with fewer than `MIN_UNUSED_ROWS` unused rows, or no used ones.
    """
    if int(unused.sum()) < MIN_UNUSED_ROWS or not bool(used.any()):
        return None
    return used & (distances <= torch.quantile(distances[unused], _UNUSED_DISTANCE_QUANTILE))


def find_untrained_ids(embedding_matrix: EmbeddingMatrix, ids: Sequence[int]) -> list[int]:
    """Return which of these tokens have a row that is short, or equal to another row of the matrix.

    Rows of tokens that a base model reserves usually keep their initial values: near zero, or all equal.

    Args:
        embedding_matrix: `vocab × dim`, any float dtype; every row is read once.
        ids: a few token ids; those beyond the matrix are ignored.

    Returns:
        The untrained ids, in ascending order.
    """
    candidates = sorted({id_ for id_ in ids if id_ < len(embedding_matrix)})
    if not candidates:
        return []
    rows = embedding_matrix[torch.tensor(candidates)].float()
    norms = rows.norm(dim=1)
    untrained = is_short(norms, median_norm=_estimate_median_norm(embedding_matrix))
    for span in iter_row_blocks(len(embedding_matrix), dim=embedding_matrix.shape[1]):
        block = embedding_matrix[span].float()
        distances = torch.cdist(rows, block, compute_mode="donot_use_mm_for_euclid_dist")
        for i, id_ in enumerate(candidates):
            if span.start <= id_ < span.stop:
                distances[i, id_ - span.start] = torch.inf  # the row itself
        untrained |= (distances <= DUPLICATE_DISTANCE_RATIO * norms[:, None]).any(dim=1)
    return [id_ for id_, is_untrained in zip(candidates, untrained.tolist(), strict=True) if is_untrained]


def _estimate_median_norm(embedding_matrix: EmbeddingMatrix) -> float:
    """Return the median norm of rows spread evenly over the matrix."""
    step = max(len(embedding_matrix) // _SAMPLED_ROWS, 1)
    return float(embedding_matrix[torch.arange(0, len(embedding_matrix), step)].float().norm(dim=1).median())
