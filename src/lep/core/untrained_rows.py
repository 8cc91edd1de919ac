"""Rows of a table that training never moved: next to nothing, or the same as another row."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from lep.core.table_rows import Rows, spans

SHORT = 0.1
"""A row is short below this share of the median norm."""
ALIKE = 1e-3
"""Two rows are the same where their distance is below this share of their norm."""
_SAMPLE = 4096


def untrained_ids(table: Rows, ids: Sequence[int]) -> list[int]:
    """Which of these tokens have a row that is short, or the same as another row of the table.

    Rows of tokens that a base model reserves are as a rule left as they were made: near zero, or all alike.

    Args:
        table: `vocab × dim`, any float dtype; every row is read once.
        ids: few, of tokens that are about to be used.
    """
    wanted = sorted({id_ for id_ in ids if id_ < len(table)})
    if not wanted:
        return []
    rows = table[torch.tensor(wanted)].float()
    norms = rows.norm(dim=1)
    untrained = norms < SHORT * _median_norm(table)
    for span in spans(len(table), dim=table.shape[1]):
        block = table[span].float()
        distances = torch.cdist(rows, block, compute_mode="donot_use_mm_for_euclid_dist")
        for i, id_ in enumerate(wanted):
            if span.start <= id_ < span.stop:
                distances[i, id_ - span.start] = torch.inf  # itself
        untrained |= (distances <= ALIKE * norms[:, None]).any(dim=1)
    return [id_ for id_, bad in zip(wanted, untrained.tolist(), strict=True) if bad]


def _median_norm(table: Rows) -> float:
    """Of rows spread evenly over the table."""
    step = max(len(table) // _SAMPLE, 1)
    return float(table[torch.arange(0, len(table), step)].float().norm(dim=1).median())
