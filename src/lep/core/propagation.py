"""Learned Embedding Propagation: carry the adapted tables into an instruct model, in closed form.

`E_propagated = E_adapted · P` with P = I + Δ, fitted so that it maps base rows onto instruct rows.
Axes: `old`, `new` vocabulary ids; `dim` the model's width.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.core.initialization import BLOCK
from lep.core.least_squares import NormalEquations
from lep.core.vocabulary import VocabularyMap

Method = Literal["swap", "overlap", "conversion"]

HELDOUT = 10
"""Every tenth row of a fit is also judged by a projection fitted without it."""


@dataclass(frozen=True)
class Projection:
    """Δ = P − I for one table, and how well it fits."""

    method: Method
    delta: Float[Tensor, "dim dim"] | None
    """float64; none for `swap`, whose P is exactly I."""
    rows: int
    """Rows that the fit saw."""
    coverage: float
    """Share of the new tokens among those rows."""
    rank: int | None
    condition: float | None
    residual: float | None
    """‖XP − Y‖ / ‖X − Y‖ over the rows of the fit: 1 is no better than swap."""
    residual_heldout: float | None
    """The same over a tenth of the rows, of a projection fitted to the other nine tenths."""
    distance_from_identity: float
    """‖P − I‖ / ‖I‖, Frobenius."""


def fit_projection(
    vocabulary_map: VocabularyMap,
    *,
    base: Float[Tensor, "old dim"],
    instruct: Float[Tensor, "old dim"],
    method: Method,
    ridge: float = 0.0,
) -> Projection:
    """P = argmin ‖X P − Y‖² + λ‖P − I‖² for one table.

    overlap: X, Y are the base and the instruct rows of the shared tokens; conversion: T·E_base and T·E_instruct, over
    all new tokens that have a row in T. Where X is rank-deficient and λ = 0, P is the solution nearest to I.

    Args:
        vocabulary_map: T; for overlap, which tokens are shared.
        base, instruct: tables of the two siblings, same shape, any float dtype, possibly memory-mapped.
        method: `swap` reads no rows.
        ridge: λ.

    Raises:
        ValueError: shapes differ, rows are not finite, or no row serves the fit.

    Source: arXiv 2412.21140 eq. 7–14; METHOD §2 for the difference form. Solved in float64.
    """
    if base.shape != instruct.shape:
        raise ValueError(f"the base table is {tuple(base.shape)}, the instruct table {tuple(instruct.shape)}")
    if base.shape[0] < vocabulary_map.old_size:
        raise ValueError(f"the tables have {base.shape[0]} rows for {vocabulary_map.old_size} old tokens")
    if method == "swap":
        return Projection("swap", None, 0, 0.0, None, None, None, None, 0.0)
    blocks = _shared_rows if method == "overlap" else _composed_rows
    fit, heldout = _accumulate(blocks(vocabulary_map, base, instruct), dim=base.shape[1])
    whole = fit + heldout
    solution = whole.solve(ridge=ridge)
    return Projection(
        method=method,
        delta=solution.delta,
        rows=whole.rows,
        coverage=whole.rows / vocabulary_map.new_size,
        rank=solution.rank,
        condition=solution.condition,
        residual=whole.residual(solution.delta),
        residual_heldout=heldout.residual(fit.solve(ridge=ridge).delta) if heldout.rows else None,
        distance_from_identity=float(solution.delta.norm()) / base.shape[1] ** 0.5,
    )


def propagate(adapted: Float[Tensor, "new dim"], projection: Projection, *, out: Float[Tensor, "new dim"]) -> None:
    """Write E_adapted · P into `out`, block by block.

    Args:
        adapted: table of the adapted model, any float dtype, possibly memory-mapped.
        projection: P.
        out: receives the rows; its dtype is the result's.

    Source: arXiv 2412.21140 eq. 7. Computed as rows + rows·Δ, in float32 (float64 for float32 and float64 tables).
    """
    if adapted.shape != out.shape:
        raise ValueError(f"the adapted table is {tuple(adapted.shape)}, the propagated one {tuple(out.shape)}")
    half = adapted.dtype in (torch.float16, torch.bfloat16)
    precision = torch.float32 if half else torch.float64
    delta = None if projection.delta is None else projection.delta.to(precision)
    for start in range(0, len(adapted), BLOCK):
        rows = adapted[start : start + BLOCK]
        if delta is not None:
            rows = rows.to(precision)
            rows = rows + rows @ delta
        out[start : start + BLOCK] = rows.to(out.dtype)


def keep_special(
    out: Float[Tensor, "new dim"],
    *,
    instruct: Float[Tensor, "old dim"],
    new_ids: Int[Tensor, " special"],
    old_ids: Int[Tensor, " special"],
) -> None:
    """Give special tokens the instruct model's own rows, bit by bit where the dtypes agree. Source: METHOD §2.3."""
    out[new_ids] = instruct[old_ids].to(out.dtype)


def _accumulate(blocks: Iterator[tuple[Tensor, Tensor]], *, dim: int) -> tuple[NormalEquations, NormalEquations]:
    """The equations of nine tenths of the rows, and of every tenth row."""
    fit, heldout = NormalEquations.empty(dim), NormalEquations.empty(dim)
    for x, d in blocks:
        judged = torch.arange(fit.rows + heldout.rows, fit.rows + heldout.rows + len(x)) % HELDOUT == HELDOUT - 1
        fit, heldout = fit.add(x[~judged], d[~judged]), heldout.add(x[judged], d[judged])
    return fit, heldout


def _shared_rows(vocabulary_map: VocabularyMap, base: Tensor, instruct: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    old_ids = vocabulary_map.pieces[vocabulary_map.offsets[:-1][vocabulary_map.shared]]
    for ids in old_ids.split(BLOCK):
        x = base[ids].double()
        yield x, instruct[ids].double() - x


def _composed_rows(vocabulary_map: VocabularyMap, base: Tensor, instruct: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    has_row = vocabulary_map.lengths > 0
    for start in range(0, vocabulary_map.new_size, BLOCK):
        rows = slice(start, min(start + BLOCK, vocabulary_map.new_size))
        x = vocabulary_map.average(base, rows, dtype=torch.float64)[has_row[rows]]
        yield x, vocabulary_map.average(instruct, rows, dtype=torch.float64)[has_row[rows]] - x
