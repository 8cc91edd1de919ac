"""Rows for the new tokens, from the old rows of their pieces.

Axes: `old`, `new` vocabulary ids; `dim` the model's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lep.core.table_rows import Rows, WritableRows, spans
from lep.core.vocabulary import VocabularyMap


@dataclass(frozen=True)
class Initialization:
    """How the rows of one table came about."""

    copied: int
    composed: int
    mean_pieces: float
    """Pieces of a composed token, on average."""
    norm_copied: float
    norm_composed: float
    """Mean Euclidean norm of the copied and of the composed rows; means of several rows are shorter."""


def initialize(old: Rows, vocabulary_map: VocabularyMap, *, out: WritableRows) -> Initialization:
    """Write E_new = T · E_old into `out`: shared rows bit by bit, the others as the mean of their pieces' rows.

    Args:
        old: the old table, `old × dim`, any float dtype.
        vocabulary_map: T.
        out: receives the new table, `new × dim`; its dtype is the result's. Rows past the vocabulary, which no token
            has, become the mean of all others.

    Raises:
        ValueError: `old` or `out` does not fit the map, or some new token has no pieces.

    Source: arXiv 2412.21140 eq. 1–2. Averages in float32 (float64 for float64 tables).
    """
    check_shapes(vocabulary_map, old=old, new=out)
    if missing := vocabulary_map.missing.tolist():
        raise ValueError(f"{len(missing)} new tokens have no pieces in the old vocabulary; the first: {missing[:5]}")
    precision = torch.promote_types(old.dtype, torch.float32)
    total = torch.zeros(old.shape[1], dtype=torch.float64)
    norms = torch.empty(vocabulary_map.new_size, dtype=torch.float64)
    for span in spans(vocabulary_map.new_size, dim=old.shape[1]):
        ids = torch.arange(span.start, span.stop)
        means = vocabulary_map.average(old, ids, dtype=precision)
        rows, copied = means.to(out.dtype), vocabulary_map.shared[ids]
        rows[copied] = old[vocabulary_map.pieces[vocabulary_map.offsets[ids[copied]]]].to(out.dtype)
        out[span] = rows
        norms[span] = means.double().norm(dim=1)
        total += means.sum(dim=0, dtype=torch.float64)
    padding = (total / vocabulary_map.new_size).to(out.dtype).expand(len(out) - vocabulary_map.new_size, -1)
    out[vocabulary_map.new_size : len(out)] = padding
    shared, lengths = vocabulary_map.shared, vocabulary_map.lengths.double()
    return Initialization(
        copied=int(shared.sum()),
        composed=int((~shared).sum()),
        mean_pieces=_mean(lengths[~shared]),
        norm_copied=_mean(norms[shared]),
        norm_composed=_mean(norms[~shared]),
    )


def check_shapes(vocabulary_map: VocabularyMap, *, old: Rows, new: Rows) -> None:
    """`ValueError` when the tables have fewer rows than the vocabularies, or differ in width."""
    if old.shape[0] < vocabulary_map.old_size:
        raise ValueError(f"the old table has {old.shape[0]} rows for {vocabulary_map.old_size} old tokens")
    if new.shape[0] < vocabulary_map.new_size:
        raise ValueError(f"the new table has {new.shape[0]} rows for {vocabulary_map.new_size} new tokens")
    if old.shape[1] != new.shape[1]:
        raise ValueError(f"the old rows have {old.shape[1]} columns, the new ones {new.shape[1]}")


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
