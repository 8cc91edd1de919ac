"""Learned Embedding Propagation: carry the adapted tables into an instruct model, in closed form.

`E_propagated = E_adapted · P` with P = I + Δ, fitted so that it maps base rows onto instruct rows.
Axes: `old`, `new` vocabulary ids; `dim` the model's width; `n` rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.core.least_squares import BlockedQR, IllConditioned, NormalEquations, Solution
from lep.core.table_rows import Rows, WritableRows, block_rows, spans
from lep.core.vocabulary import VocabularyMap

Method = Literal["swap", "overlap", "conversion"]
METHODS: tuple[Method, ...] = ("swap", "overlap", "conversion")

Advance = Callable[[int], object]

HELDOUT = 10
"""Every tenth row of T is kept from a first fit, which is judged by it; the fit that counts sees all rows."""


@dataclass(frozen=True)
class Errors:
    """‖XP − Y‖ / ‖X − Y‖ over the held-out rows of T, P fitted without them: 1 is no better than swap.

    The same rows judge every method, so these can be compared. None: no such row, or none that differs.
    """

    all: float | None
    shared: float | None
    composed: float | None
    by_label: tuple[float | None, ...]


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
    solver: Literal["normal equations", "blocked QR"] | None
    residual: float
    """‖XP − Y‖ / ‖X − Y‖ over the rows of the fit."""
    heldout: Errors | None
    """None where there are too few rows to keep some from the fit."""
    distance_from_identity: float
    """‖P − I‖ / ‖I‖, Frobenius."""


@dataclass(frozen=True)
class Fit:
    """What a fit looks at: the rows of T·E_base and of T·E_instruct, weighed and labelled."""

    vocabulary_map: VocabularyMap
    base: Rows
    """The base table, `old × dim`, any float dtype."""
    instruct: Rows
    """The instruct model's; it may have more rows."""
    ridge: float = 0.0
    """λ, in units of squared row entries summed over rows."""
    weights: Float[Tensor, " new"] | None = None
    """How much each new token's row counts, in any unit; none: all the same."""
    labels: Int[Tensor, " new"] | None = None
    """A label of each new token, by which held-out errors are told apart; none: all 0."""
    device: torch.device | str = "cpu"
    """Where blocks of rows are multiplied and Δ is solved."""
    advance: Advance | None = None
    """Told of every block how many rows it had."""

    def __post_init__(self) -> None:
        if self.base.shape[1] != self.instruct.shape[1]:
            raise ValueError(f"base rows have {self.base.shape[1]} columns, instruct rows {self.instruct.shape[1]}")
        needed = int(self.vocabulary_map.pieces.max()) + 1 if len(self.vocabulary_map.pieces) else 0
        for name, table in (("base", self.base), ("instruct", self.instruct)):
            if len(table) < needed:
                raise ValueError(f"the {name} table has {len(table)} rows; token {needed - 1} is needed")

    @property
    def dim(self) -> int:
        """Width of the tables."""
        return self.base.shape[1]

    def blocks(self, ids: Int[Tensor, " ids"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """X = T·E_base and D = T·E_instruct − X of these new tokens, block by block, with the tokens' ids."""
        for part in ids.split(block_rows(self.dim)):
            x = self.vocabulary_map.average(self.base, part, dtype=torch.float64, device=self.device)
            d = self.vocabulary_map.average(self.instruct, part, dtype=torch.float64, device=self.device)
            d.sub_(x)  # in place, here and below: the first touch of fresh memory costs as much as arithmetic does
            if self.weights is not None:
                root = self.weights[part].to(x).sqrt()[:, None]
                x.mul_(root)
                d.mul_(root)
            yield part, x, d
            if self.advance:
                self.advance(len(part))

    def errors(self, ids: Int[Tensor, " ids"], delta: Float[Tensor, "dim dim"] | None) -> Errors:
        """How far P is from right on these new tokens."""
        labels = torch.zeros(self.vocabulary_map.new_size, dtype=torch.int64) if self.labels is None else self.labels
        groups = labels * 2 + self.vocabulary_map.shared
        missed = torch.zeros(2, 2 * (int(labels.max()) + 1), dtype=torch.float64, device=self.device)
        for part, x, d in self.blocks(ids):
            error = d if delta is None else d - x @ delta
            squares = torch.stack([error.square().sum(dim=1), d.square().sum(dim=1)])
            missed.index_add_(1, groups[part].to(self.device), squares)
        sums = missed.cpu().view(2, -1, 2)
        return Errors(
            all=_ratio(sums.sum(dim=(1, 2))),
            shared=_ratio(sums[:, :, 1].sum(dim=1)),
            composed=_ratio(sums[:, :, 0].sum(dim=1)),
            by_label=tuple(_ratio(pair) for pair in sums.sum(dim=2).T),
        )


def fit_projection(fit: Fit, method: Method, *, grams: list[Tensor] | None = None) -> Projection:
    """P = argmin ‖X P − Y‖² + λ‖P − I‖² for one table.

    overlap: X, Y are the base and the instruct rows of the shared tokens; conversion: T·E_base and T·E_instruct, over
    all new tokens that have a row in T. Where X is rank-deficient and λ = 0, P is the solution nearest to I.

    Args:
        fit: the two tables and T.
        method: `swap` fits nothing.
        grams: G of the same map, base table, method, weights and device: filled when empty, else used. So many
            instruct models of one base share it.

    Raises:
        ValueError: rows are not finite, or no row serves the fit.

    Source: arXiv 2412.21140 eq. 7–14; METHOD §2 for the difference form. Solved in float64.
    """
    has_row = (fit.vocabulary_map.lengths > 0).nonzero().flatten()
    heldout = has_row[HELDOUT - 1 :: HELDOUT]
    if method == "swap":
        errors = fit.errors(heldout, None) if len(heldout) else None
        return Projection("swap", None, 0, 0.0, None, None, None, 1.0, errors, 0.0)
    ids = fit.vocabulary_map.shared.nonzero().flatten() if method == "overlap" else has_row
    equations, solution, errors = _solve(fit, ids=ids, heldout=heldout, grams=grams)
    return Projection(
        method=method,
        delta=solution.delta,
        rows=equations.rows,
        coverage=equations.rows / fit.vocabulary_map.new_size,
        rank=solution.rank,
        condition=solution.condition,
        solver="blocked QR" if isinstance(equations, BlockedQR) else "normal equations",
        residual=equations.residual(solution.delta),
        heldout=errors,
        distance_from_identity=float(solution.delta.norm()) / fit.dim**0.5,
    )


def best(projections: Sequence[Projection]) -> Projection:
    """The one of the smallest error on held-out rows; the first of equals, and where none was measured."""

    def error(found: Projection) -> float:
        return inf if found.heldout is None or found.heldout.all is None else found.heldout.all

    return min(projections, key=error)


def propagate(
    adapted: Rows,
    projection: Projection,
    *,
    out: WritableRows,
    device: torch.device | str = "cpu",
    advance: Advance | None = None,
) -> Float[Tensor, " new"]:
    """Write E_adapted · P into `out`, block by block; returns the norms of the new rows, float32.

    Args:
        adapted: table of the adapted model, `new × dim`, any float dtype.
        projection: P.
        out: receives the rows; its dtype is the result's. It may have more rows, which are left alone.
        device: where blocks are multiplied.
        advance: told of every block how many rows it had.

    Source: arXiv 2412.21140 eq. 7. Computed as rows + rows·Δ, in float32 between 16-bit tables, else in float64.
    """
    if len(adapted) > len(out) or adapted.shape[1] != out.shape[1]:
        raise ValueError(f"the adapted table is {tuple(adapted.shape)}, the propagated one {tuple(out.shape)}")
    half = {adapted.dtype, out.dtype} <= {torch.float16, torch.bfloat16}
    precision = torch.float32 if half else torch.float64
    delta = None if projection.delta is None else projection.delta.to(device, precision)
    norms = torch.empty(len(adapted), dtype=torch.float32)
    for span in spans(len(adapted), dim=adapted.shape[1]):
        rows = adapted[span]
        if delta is not None:
            rows = rows.to(device, precision)
            rows = torch.addmm(rows, rows, delta)
        rows = rows.to(out.dtype).cpu()
        out[span] = rows
        norms[span] = torch.linalg.vector_norm(rows, dim=1, dtype=_at_least_float32(rows)).float()
        if advance:
            advance(len(rows))
    return norms


def keep_special(
    out: WritableRows, *, instruct: Rows, new_ids: Int[Tensor, " special"], old_ids: Int[Tensor, " special"]
) -> None:
    """Give special tokens the instruct model's own rows, bit by bit where the dtypes agree. Source: METHOD §2.3."""
    out[new_ids] = instruct[old_ids].to(out.dtype)


def _solve(
    fit: Fit, *, ids: Tensor, heldout: Tensor, grams: list[Tensor] | None
) -> tuple[NormalEquations | BlockedQR, Solution, Errors | None]:
    """By the normal equations or, where they would lose too many digits, by a blocked QR."""
    known = None if grams is None else list(grams)
    try:
        equations = NormalEquations.empty(fit.dim, device=fit.device, shared=known)
        solution, errors = _solve_twice(fit, equations, ids=ids, heldout=heldout)
    except IllConditioned:
        equations = BlockedQR.empty(fit.dim, device=fit.device)
        solution, errors = _solve_twice(fit, equations, ids=ids, heldout=heldout)
    if grams is not None and known:  # not before both solves succeeded
        grams[:] = known
    return equations, solution, errors


def _solve_twice(
    fit: Fit, equations: NormalEquations | BlockedQR, *, ids: Tensor, heldout: Tensor
) -> tuple[Solution, Errors | None]:
    """Fit without the held-out rows, be judged by them, then fit to them as well."""
    kept_back = torch.isin(ids, heldout)
    for _, x, d in fit.blocks(ids[~kept_back]):
        equations.add(x, d)
    errors = None
    if equations.rows and len(heldout):
        errors = fit.errors(heldout, equations.solve(ridge=fit.ridge).delta)
    for _, x, d in fit.blocks(ids[kept_back]):
        equations.add(x, d)
    return equations.solve(ridge=fit.ridge), errors


def _at_least_float32(rows: Tensor) -> torch.dtype:
    return torch.promote_types(rows.dtype, torch.float32)


def _ratio(pair: Tensor) -> float | None:
    missed, moved = pair.tolist()
    return (missed / moved) ** 0.5 if moved else None
