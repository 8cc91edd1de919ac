"""Learned Embedding Propagation: transfer the adapted embeddings into an instruct model, in closed form.

`E_propagated = E_adapted · P` with P = I + Δ, fitted so that it maps base rows to instruct rows. See
[The fit](docs/mathematics.md#the-fit). Axes: `old`, `new` vocabulary ids; `dim` the model's width; `n` rows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix, WritableEmbeddingMatrix, iter_row_blocks, rows_per_block
from lep.core.least_squares import BlockedQR, Gram, IllConditionedError, NormalEquations, Solution
from lep.core.vocabulary import VocabularyMap

PropagationMethod = Literal["swap", "overlap", "conversion"]
METHODS: tuple[PropagationMethod, ...] = ("swap", "overlap", "conversion")

ProgressCallback = Callable[[int], object]
"""Called after each block with its number of rows."""

HELDOUT_STRIDE = 10
"""Every tenth row of T is left out of a first fit and measures its error; the final fit sees all rows."""


@dataclass(frozen=True)
class HeldoutError:
    """‖XP − Y‖ / ‖X − Y‖ over the held-out rows of T, P fitted without them: 1 is no better than swap.

    The same rows measure every method, so methods can be compared. `None`: there is no such row, or none differs.
    """

    all: float | None
    shared: float | None
    composed: float | None
    by_label: tuple[float | None, ...]


@dataclass(frozen=True)
class Projection:
    """Δ = P − I for one embedding matrix, and how well it fits; the defaults are those of `swap`."""

    method: PropagationMethod
    delta: Float[Tensor, "dim dim"] | None = None
    """float64; `None` for `swap`, whose P is exactly I."""
    rows: int = 0
    """Number of rows in the fit."""
    coverage: float = 0.0
    """Fraction of the new tokens among those rows."""
    rank: int | None = None
    condition: float | None = None
    solver: Literal["normal equations", "blocked QR"] | None = None
    residual: float = 1.0
    """‖XP − Y‖ / ‖X − Y‖ over the rows of the fit."""
    heldout_error: HeldoutError | None = None
    """`None` where there are too few rows to leave some out."""
    distance_from_identity: float = 0.0
    """‖P − I‖ / ‖I‖, Frobenius."""
    grams: tuple[Gram, ...] = field(default=(), repr=False, compare=False)
    """Gram matrices of the base rows, to fit other instruct models of the same base with; empty without them."""


@dataclass(frozen=True)
class AlignmentProblem:
    """The rows of T·E_base and T·E_instruct to align, with weights and labels; arguments as in `fit_projection`."""

    base: EmbeddingMatrix
    instruct: EmbeddingMatrix
    vocabulary_map: VocabularyMap
    ridge: float = 0.0
    weights: Float[Tensor, " new"] | None = None
    labels: Int[Tensor, " new"] | None = None
    device: torch.device | str = "cpu"
    advance: ProgressCallback | None = None

    def __post_init__(self) -> None:
        if self.base.shape[1] != self.instruct.shape[1]:
            raise ValueError(f"base rows have {self.base.shape[1]} columns, instruct rows {self.instruct.shape[1]}")
        needed = int(self.vocabulary_map.segmentation.max()) + 1 if len(self.vocabulary_map.segmentation) else 0
        for name, embeddings in (("base", self.base), ("instruct", self.instruct)):
            if len(embeddings) < needed:
                raise ValueError(f"the {name} matrix has {len(embeddings)} rows; token {needed - 1} is needed")

    @property
    def dim(self) -> int:
        """Return the width of the embeddings."""
        return self.base.shape[1]

    def iter_blocks(self, ids: Int[Tensor, " ids"]) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (ids, X = T·E_base, D = T·E_instruct − X) of these new tokens, block by block, in float64."""
        for block_ids in ids.split(rows_per_block(self.dim)):
            x = self.vocabulary_map.average_rows(self.base, block_ids, dtype=torch.float64, device=self.device)
            d = self.vocabulary_map.average_rows(self.instruct, block_ids, dtype=torch.float64, device=self.device)
            d.sub_(x)  # in place, here and below: the first touch of fresh memory costs as much as arithmetic does
            if self.weights is not None:
                root = self.weights[block_ids].to(x).sqrt()[:, None]
                x.mul_(root)
                d.mul_(root)
            yield block_ids, x, d
            if self.advance:
                self.advance(len(block_ids))

    def compute_heldout_error(self, ids: Int[Tensor, " ids"], delta: Float[Tensor, "dim dim"] | None) -> HeldoutError:
        """Return the relative error of P = I + Δ on these new tokens."""
        labels = torch.zeros(self.vocabulary_map.new_size, dtype=torch.int64) if self.labels is None else self.labels
        groups = labels * 2 + self.vocabulary_map.shared
        squares = torch.zeros(2, 2 * (int(labels.max()) + 1), dtype=torch.float64, device=self.device)
        for block_ids, x, d in self.iter_blocks(ids):
            error = d if delta is None else d - x @ delta
            row_squares = torch.stack([error.square().sum(dim=1), d.square().sum(dim=1)])
            squares.index_add_(1, groups[block_ids].to(self.device), row_squares)
        sums = squares.cpu().view(2, -1, 2)
        return HeldoutError(
            all=_relative_error(sums.sum(dim=(1, 2))),
            shared=_relative_error(sums[:, :, 1].sum(dim=1)),
            composed=_relative_error(sums[:, :, 0].sum(dim=1)),
            by_label=tuple(_relative_error(pair) for pair in sums.sum(dim=2).T),
        )


def fit_projection(
    base: EmbeddingMatrix,
    instruct: EmbeddingMatrix,
    vocabulary_map: VocabularyMap,
    *,
    method: PropagationMethod = "conversion",
    ridge: float = 0.0,
    weights: Float[Tensor, " new"] | None = None,
    labels: Int[Tensor, " new"] | None = None,
    grams: tuple[Gram, ...] = (),
    device: torch.device | str = "cpu",
    advance: ProgressCallback | None = None,
) -> Projection:
    """Fit P = argmin ‖X P − Y‖² + λ‖P − I‖² for one embedding matrix.

    `overlap`: X, Y are the base and instruct rows of the shared tokens; `conversion`: T·E_base and T·E_instruct over
    all new tokens that have a row in T; `swap` fits nothing, P = I. Where X is rank-deficient and λ = 0, P is the
    solution nearest to I. Solved in float64. See [The fit](docs/mathematics.md#the-fit); arXiv 2412.21140 eq. 7-14.

    Args:
        base: base embeddings, `old × dim`, any float dtype.
        instruct: instruct embeddings, `old × dim`; further rows are ignored.
        vocabulary_map: T, from the old to the new vocabulary.
        method: `swap`, `overlap` or `conversion`.
        ridge: λ ≥ 0, in units of squared row entries summed over rows.
        weights: weight of each new token's row, in any unit; `None`: all the same.
        labels: a label ≥ 0 of each new token, by which held-out errors are grouped; `None`: all 0.
        grams: `Projection.grams` of an earlier fit with the same base, map, method, weights and device; spares a third
            of the work and changes no bit.
        device: where blocks of rows are multiplied and Δ is solved.
        advance: called after each block with its number of rows.

    Returns:
        Δ with its diagnostics.

    Raises:
        ValueError: the method is unknown, the matrices do not fit each other or the map, rows are not finite, no row
            serves the fit, or `grams` belong to other rows.

    Example:
        >>> import lep, torch
        >>> words = lep.Vocabulary([b"a", b"b", b"c", b"d"], [lep.TokenKind.NORMAL] * 4)
        >>> same = lep.build_vocabulary_map(old=words, new=words, segment=lambda token: [])
        >>> base = torch.randn(4, 2, generator=torch.Generator().manual_seed(0))
        >>> projection = lep.fit_projection(base, 3 * base, same, method="conversion")
        >>> expected = 2 * torch.eye(2, dtype=torch.float64)  # P = I + Δ triples every row
        >>> torch.allclose(projection.delta, expected, atol=1e-5)
        True
    """
    if method not in METHODS:
        raise ValueError(f"unknown method {method!r}; expected one of {', '.join(METHODS)}")
    problem = AlignmentProblem(
        base, instruct, vocabulary_map, ridge=ridge, weights=weights, labels=labels, device=device, advance=advance
    )
    has_row = (vocabulary_map.lengths > 0).nonzero().flatten()
    heldout = has_row[HELDOUT_STRIDE - 1 :: HELDOUT_STRIDE]
    if method == "swap":
        heldout_error = problem.compute_heldout_error(heldout, None) if len(heldout) else None
        return Projection(method=method, heldout_error=heldout_error)
    ids = vocabulary_map.shared.nonzero().flatten() if method == "overlap" else has_row
    equations, solution, heldout_error, grams = _solve_with_fallback(problem, ids=ids, heldout=heldout, grams=grams)
    return Projection(
        method=method,
        delta=solution.delta,
        rows=equations.rows,
        coverage=equations.rows / vocabulary_map.new_size,
        rank=solution.rank,
        condition=solution.condition,
        solver="blocked QR" if isinstance(equations, BlockedQR) else "normal equations",
        residual=equations.relative_residual(solution.delta),
        heldout_error=heldout_error,
        distance_from_identity=float(solution.delta.norm()) / problem.dim**0.5,
        grams=grams,
    )


def select_projection(projections: Sequence[Projection]) -> Projection:
    """Return the projection of the smallest held-out error: the first of equals, or the first if none was measured."""

    def error(projection: Projection) -> float:
        heldout = projection.heldout_error
        return inf if heldout is None or heldout.all is None else heldout.all

    return min(projections, key=error)


def propagate_embeddings(
    adapted: EmbeddingMatrix,
    projection: Projection,
    *,
    out: WritableEmbeddingMatrix,
    device: torch.device | str = "cpu",
    advance: ProgressCallback | None = None,
) -> Float[Tensor, " new"]:
    """Write E_adapted · P into `out`, block by block. Source: arXiv 2412.21140 eq. 7.

    Computed as rows + rows·Δ, in float32 between 16-bit matrices, else in float64.

    Args:
        adapted: embeddings of the adapted model, `new × dim`, any float dtype.
        projection: P.
        out: receives the rows; its dtype is the result's. It may have more rows, which keep their values.
        device: where blocks are multiplied.
        advance: called after each block with its number of rows.

    Returns:
        Euclidean norms of the new rows, float32.

    Raises:
        ValueError: `out` has fewer rows than `adapted`, or another width.
    """
    if len(adapted) > len(out) or adapted.shape[1] != out.shape[1]:
        raise ValueError(f"the adapted matrix is {tuple(adapted.shape)}, the propagated one {tuple(out.shape)}")
    is_16_bit = {adapted.dtype, out.dtype} <= {torch.float16, torch.bfloat16}
    precision = torch.float32 if is_16_bit else torch.float64
    delta = None if projection.delta is None else projection.delta.to(device, precision)
    norm_dtype = torch.promote_types(out.dtype, torch.float32)
    norms = torch.empty(len(adapted), dtype=torch.float32)
    for span in iter_row_blocks(len(adapted), dim=adapted.shape[1]):
        rows = adapted[span]
        if delta is not None:
            rows = rows.to(device, precision)
            rows = torch.addmm(rows, rows, delta)
        rows = rows.to(out.dtype).cpu()
        out[span] = rows
        norms[span] = torch.linalg.vector_norm(rows, dim=1, dtype=norm_dtype).float()
        if advance:
            advance(len(rows))
    return norms


def copy_special_rows(
    out: WritableEmbeddingMatrix,
    *,
    instruct: EmbeddingMatrix,
    new_ids: Int[Tensor, " special"],
    old_ids: Int[Tensor, " special"],
) -> None:
    """Copy the instruct model's own rows of special tokens, bit for bit where the dtypes agree.

    Args:
        out: propagated embeddings, changed in place.
        instruct: embeddings of the instruct model.
        new_ids: ids of the special tokens in `out`.
        old_ids: ids of the same tokens in `instruct`.
    """
    out[new_ids] = instruct[old_ids].to(out.dtype)


def _solve_with_fallback(
    problem: AlignmentProblem, *, ids: Tensor, heldout: Tensor, grams: tuple[Gram, ...]
) -> tuple[NormalEquations | BlockedQR, Solution, HeldoutError | None, tuple[Gram, ...]]:
    """Fit by the normal equations or, where they would lose too many digits, by a blocked QR."""
    equations: NormalEquations | BlockedQR
    try:
        equations = NormalEquations.empty(problem.dim, device=problem.device, known_grams=grams)
        return equations, *_fit_and_validate(problem, equations, ids=ids, heldout=heldout)
    except IllConditionedError:
        equations = BlockedQR.empty(problem.dim, device=problem.device)
        return equations, *_fit_and_validate(problem, equations, ids=ids, heldout=heldout)


def _fit_and_validate(
    problem: AlignmentProblem, equations: NormalEquations | BlockedQR, *, ids: Tensor, heldout: Tensor
) -> tuple[Solution, HeldoutError | None, tuple[Gram, ...]]:
    """Fit without the held-out rows, measure the error on them, then fit all rows."""
    is_heldout = torch.isin(ids, heldout)
    heldout_error, grams = None, []
    for _, x, d in problem.iter_blocks(ids[~is_heldout]):
        equations.add_rows(x, d)
    if equations.rows and len(heldout):
        heldout_error, gram = _validate(problem, equations, heldout)
        grams.append(gram)
    for _, x, d in problem.iter_blocks(ids[is_heldout]):
        equations.add_rows(x, d)
    solution = equations.solve(ridge=problem.ridge)
    return solution, heldout_error, tuple(gram for gram in (*grams, solution.gram) if gram)


def _validate(
    problem: AlignmentProblem, equations: NormalEquations | BlockedQR, heldout: Tensor
) -> tuple[HeldoutError, Gram | None]:
    solution = equations.solve(ridge=problem.ridge)
    return problem.compute_heldout_error(heldout, solution.delta), solution.gram


def _relative_error(pair: Tensor) -> float | None:
    missed, moved = pair.tolist()
    return (missed / moved) ** 0.5 if moved else None
