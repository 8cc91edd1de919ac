"""E_adapted · P: its invariants, and every method against NumPy on an explicit T."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from lep.core import embedding_matrix
from lep.core.propagation import (
    copy_special_rows,
    fit_projection,
    propagate_embeddings,
    select_projection,
)
from lep.core.vocabulary import VocabularyMap

METHODS = ["swap", "overlap", "conversion"]
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
OLD, NEW, DIM = 150, 240, 16


def random_embeddings(*, seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """base, instruct (an unrelated change of it) and adapted."""
    generator = torch.Generator().manual_seed(seed)
    base = torch.randn(OLD, DIM, generator=generator)
    instruct = base + 0.1 * torch.randn(OLD, DIM, generator=generator)
    return base.to(dtype), instruct.to(dtype), torch.randn(NEW, DIM, generator=generator).to(dtype)


def propagate(
    mapping: VocabularyMap, base: Tensor, instruct: Tensor, adapted: Tensor, method, ridge: float = 0.0
) -> Tensor:
    out = torch.full_like(adapted, float("nan"))
    propagate_embeddings(adapted, fit_projection(base, instruct, mapping, method=method, ridge=ridge), out=out)
    return out


def rows_of_fit(mapping: VocabularyMap, dense, method: str) -> Tensor:
    """T, or its rows that `overlap` uses."""
    return dense(mapping)[mapping.shared if method == "overlap" else mapping.lengths > 0]


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    return float(np.linalg.norm(actual.numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_an_instruct_model_that_is_the_base_changes_nothing(random_map, method, dtype) -> None:
    base, _, adapted = random_embeddings(dtype=dtype)
    assert torch.equal(propagate(random_map(old=OLD, new=NEW), base, base.clone(), adapted, method), adapted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_swap_keeps_every_bit(random_map, dtype) -> None:
    base, instruct, adapted = random_embeddings(dtype=dtype)
    adapted[:, 0] = -0.0
    out = propagate(random_map(old=OLD, new=NEW), base, instruct, adapted, "swap")
    assert torch.equal(out.view(torch.uint8), adapted.view(torch.uint8))


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_an_exact_linear_change_is_recovered(random_map, method) -> None:
    base, _, adapted = random_embeddings(dtype=torch.float64)
    change = torch.eye(DIM, dtype=torch.float64) + 0.3 * torch.randn(DIM, DIM, dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW)
    projection = fit_projection(base, base @ change, mapping, method=method)
    assert relative_error(projection.delta + torch.eye(DIM), change.numpy()) < 1e-10
    assert projection.residual < 1e-7 and projection.heldout_error.all < 1e-7
    assert torch.allclose(propagate(mapping, base, base @ change, adapted, method), adapted @ change, rtol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("missing", [0, 5])
@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_equals_numpy_on_the_explicit_matrix(random_map, dense, method, missing, dtype) -> None:
    """The projection itself (not the difference) by NumPy's SVD, in float64."""
    base, instruct, adapted = random_embeddings(dtype=dtype)
    mapping = random_map(old=OLD, new=NEW, missing=missing)
    x = rows_of_fit(mapping, dense, method) @ base.double()
    y = rows_of_fit(mapping, dense, method) @ instruct.double()
    expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0]
    projection = fit_projection(base, instruct, mapping, method=method)
    assert relative_error(projection.delta + torch.eye(DIM), expected) < 1e-9
    out = propagate(mapping, base, instruct, adapted, method).double()
    precision = 1e-12 if dtype == torch.float64 else torch.finfo(dtype).eps
    assert relative_error(out, adapted.double().numpy() @ expected) < precision


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_where_rows_are_few_the_projection_is_the_nearest_to_identity(random_map, dense, method) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    base, instruct = base[:OLD].repeat(1, 8), instruct.repeat(1, 8)
    mapping = random_map(old=OLD, new=30)
    x = rows_of_fit(mapping, dense, method) @ base
    d = rows_of_fit(mapping, dense, method) @ (instruct - base)
    projection = fit_projection(base, instruct, mapping, method=method)
    expected, _, rank, _ = np.linalg.lstsq(x.numpy(), d.numpy(), rcond=None)
    assert projection.rank == rank < 8 * DIM
    assert relative_error(projection.delta, expected) < 1e-9


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_ridge_leads_to_swap(random_map, method) -> None:
    base, instruct, adapted = random_embeddings()
    mapping = random_map(old=OLD, new=NEW)
    distances = [
        fit_projection(base, instruct, mapping, method=method, ridge=ridge).distance_from_identity
        for ridge in (0.0, 1.0, 1e3, 1e6)
    ]
    assert distances == sorted(distances, reverse=True) and distances[0] > 10 * distances[-1]
    assert torch.equal(propagate(mapping, base, instruct, adapted, method, ridge=1e15), adapted)


@pytest.mark.parametrize("method", METHODS)
def test_permuting_the_new_vocabulary_permutes_the_result(random_map, method) -> None:
    base, instruct, adapted = random_embeddings(dtype=torch.float64)
    mapping, order = random_map(old=OLD, new=NEW), torch.randperm(NEW, generator=torch.Generator().manual_seed(1))
    rows = [mapping.segmentation[mapping.offsets[id_] : mapping.offsets[id_ + 1]] for id_ in order]
    offsets = torch.tensor([0, *(len(row) for row in rows)]).cumsum(0)
    permuted = replace(mapping, segmentation=torch.cat(rows), offsets=offsets, shared=mapping.shared[order])
    straight = propagate(mapping, base, instruct, adapted, method)
    assert torch.allclose(propagate(permuted, base, instruct, adapted[order], method), straight[order], rtol=1e-9)


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_blocks_equal_at_once(random_map, method, monkeypatch) -> None:
    base, instruct, adapted = random_embeddings(dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW, missing=3)
    once = fit_projection(base, instruct, mapping, method=method)
    out = propagate(mapping, base, instruct, adapted, method)
    monkeypatch.setattr(embedding_matrix, "BLOCK_ELEMENTS", 7 * DIM)
    blocks = fit_projection(base, instruct, mapping, method=method)
    assert torch.allclose(blocks.delta, once.delta, rtol=1e-9, atol=1e-12)
    assert blocks.residual == pytest.approx(once.residual, rel=1e-9)
    assert blocks.heldout_error.all == pytest.approx(once.heldout_error.all, rel=1e-9)
    assert torch.allclose(propagate(mapping, base, instruct, adapted, method), out, rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_output_dtype_is_input_dtype_and_every_row_is_written(random_map, method, dtype) -> None:
    out = propagate(random_map(old=OLD, new=NEW, missing=2), *random_embeddings(dtype=dtype), method)
    assert out.dtype == dtype
    assert out.isfinite().all() and (out != 0).any(dim=1).all()


def test_special_tokens_keep_the_instruct_row_bit_for_bit() -> None:
    _, instruct, adapted = random_embeddings(dtype=torch.bfloat16)
    out = adapted.clone()
    copy_special_rows(out, instruct=instruct, new_ids=torch.tensor([7, 200]), old_ids=torch.tensor([149, 0]))
    assert torch.equal(out[[7, 200]], instruct[[149, 0]])
    others = [id_ for id_ in range(NEW) if id_ not in (7, 200)]
    assert torch.equal(out[others], adapted[others])


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_diagnostics_are_those_of_the_explicit_fit(random_map, dense, method) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW, missing=4)
    projection = fit_projection(base, instruct, mapping, method=method)
    x = rows_of_fit(mapping, dense, method) @ base
    d = rows_of_fit(mapping, dense, method) @ (instruct - base)
    singular = np.linalg.svd(x.numpy(), compute_uv=False)
    assert projection.rows == len(x) and projection.coverage == len(x) / NEW
    assert projection.rank == DIM and projection.condition == pytest.approx(singular[0] / singular[-1], rel=1e-6)
    assert projection.residual == pytest.approx(float((x @ projection.delta - d).norm() / d.norm()), rel=1e-6)
    assert projection.distance_from_identity == pytest.approx(float(projection.delta.norm()) / DIM**0.5)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_heldout_errors_are_those_of_a_fit_without_every_tenth_row_of_t(random_map, dense, method, weighted) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW, missing=2)
    weights = torch.rand(NEW) + 0.1 if weighted else None
    labels = torch.arange(NEW) // 10 % 4
    labels += labels == 3  # no token has label 3
    heldout = fit_projection(base, instruct, mapping, method=method, weights=weights, labels=labels).heldout_error
    root = (torch.ones(NEW) if weights is None else weights).double().sqrt()[:, None]
    x, d = (root * (dense(mapping) @ table) for table in (base, instruct - base))
    judged = (mapping.lengths > 0).nonzero().flatten()[9::10]
    seen = mapping.shared if method == "overlap" else mapping.lengths > 0
    seen = seen & ~torch.isin(torch.arange(NEW), judged)
    delta = torch.zeros(DIM, DIM, dtype=torch.float64)
    if method != "swap":
        delta = torch.from_numpy(np.linalg.lstsq(x[seen].numpy(), d[seen].numpy(), rcond=None)[0])

    def error(among: Tensor) -> float:
        ids = judged[among[judged]]
        return float((x[ids] @ delta - d[ids]).norm() / d[ids].norm())

    everything = torch.ones(NEW, dtype=torch.bool)
    assert heldout.all == pytest.approx(error(everything), rel=1e-9)
    assert heldout.shared == pytest.approx(error(mapping.shared), rel=1e-9)
    assert heldout.composed == pytest.approx(error(~mapping.shared), rel=1e-9)
    assert heldout.by_label[3] is None
    for label in (0, 1, 2, 4):
        assert heldout.by_label[label] == pytest.approx(error(labels == label), rel=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 3.0])
@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_weights_are_those_of_weighted_least_squares(random_map, dense, method, ridge) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    mapping, weights = random_map(old=OLD, new=NEW), torch.rand(NEW)
    root = weights.double().sqrt()[mapping.shared if method == "overlap" else slice(None), None]
    x = root * (rows_of_fit(mapping, dense, method) @ base)
    d = root * (rows_of_fit(mapping, dense, method) @ (instruct - base))
    augmented = np.vstack([x.numpy(), ridge**0.5 * np.eye(DIM)])
    expected = np.linalg.lstsq(augmented, np.vstack([d.numpy(), np.zeros((DIM, DIM))]), rcond=None)[0]
    projection = fit_projection(base, instruct, mapping, method=method, ridge=ridge, weights=weights)
    assert relative_error(projection.delta, expected) < 1e-9


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_instruct_models_of_one_base_share_the_gram_matrices(random_map, method) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    _, other, _ = random_embeddings(seed=1, dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW)
    grams = fit_projection(base, other, mapping, method=method).grams
    alone, shared = (fit_projection(base, instruct, mapping, method=method, grams=known) for known in ((), grams))
    assert len(grams) == 2 and all(ours is given for ours, given in zip(shared.grams, grams, strict=True))
    assert torch.equal(shared.delta, alone.delta) and shared.heldout_error == alone.heldout_error
    assert (shared.residual, shared.rank, shared.condition) == (alone.residual, alone.rank, alone.condition)


@pytest.mark.parametrize("condition", [1e3, 1e8])
def test_the_condition_chooses_the_solver_and_a_linear_change_is_recovered_by_both(random_map, condition) -> None:
    base, _, _ = random_embeddings(dtype=torch.float64)
    base = base * torch.logspace(0, -float(np.log10(condition)), DIM, dtype=torch.float64)
    change = torch.eye(DIM, dtype=torch.float64) + 0.1 * torch.randn(DIM, DIM, dtype=torch.float64)
    projection = fit_projection(base, base @ change, random_map(old=OLD, new=NEW), method="conversion")
    assert projection.solver == ("normal equations" if condition < 1e6 else "blocked QR")
    assert projection.condition == pytest.approx(condition, rel=0.9)
    assert relative_error(projection.delta + torch.eye(DIM), change.numpy()) < 1e-15 * condition**2 + 1e-7


def test_the_best_method_errs_least_on_heldout_rows(random_map) -> None:
    base, instruct, _ = random_embeddings(dtype=torch.float64)
    mapping = random_map(old=OLD, new=NEW)
    for change in (base * 1.5, instruct, base + torch.randn(OLD, DIM)):
        fits = [fit_projection(base, change, mapping, method=method) for method in METHODS]
        assert fits[0].heldout_error.all == pytest.approx(1)
        assert select_projection(fits).heldout_error.all == min(fit.heldout_error.all for fit in fits)
    same = [fit_projection(base, base.clone(), mapping, method=method) for method in METHODS]
    assert select_projection(same).method == "swap" and same[0].heldout_error.all is None


def test_heldout_residual_agrees_on_many_rows_and_shows_overfitting_on_few() -> None:
    def residuals(rows: int, dim: int) -> tuple[float, float]:
        generator = torch.Generator().manual_seed(0)
        base = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
        change = base @ torch.randn(dim, dim, generator=generator, dtype=torch.float64) / dim**0.5
        noise = torch.randn(rows, dim, generator=generator, dtype=torch.float64)
        ids = torch.arange(rows)
        same = VocabularyMap(segmentation=ids, offsets=torch.arange(rows + 1), shared=ids >= 0, old_size=rows)
        projection = fit_projection(base, base + change + noise, same, method="overlap")
        return projection.residual, projection.heldout_error.all

    fitted, heldout = residuals(5000, 8)
    assert heldout == pytest.approx(fitted, rel=0.05)
    fitted, heldout = residuals(100, 80)
    assert heldout > 2 * fitted


@pytest.mark.usefixtures("unchecked")
def test_what_does_not_fit_is_an_error(random_map) -> None:
    base, instruct, adapted = random_embeddings()
    mapping = random_map(old=OLD, new=NEW)
    with pytest.raises(ValueError, match="base rows have 16 columns, instruct rows 15"):
        fit_projection(base, instruct[:, 1:], mapping)
    for name, matrices in (("base", (base[:-1], instruct)), ("instruct", (base, instruct[:-1]))):
        with pytest.raises(ValueError, match=f"the {name} matrix has 149 rows; token 149 is needed"):
            fit_projection(*matrices, mapping)
    with pytest.raises(ValueError, match="unknown method 'auto'; expected one of swap, overlap, conversion"):
        fit_projection(base, instruct, mapping, method="auto")
    with pytest.raises(ValueError, match=r"of \[216, 240\] rows, not of 72: they belong to another X"):
        grams = fit_projection(base, instruct, mapping, method="conversion").grams
        fit_projection(base, instruct, mapping, method="overlap", grams=grams)
    longer = torch.cat([instruct, torch.full((3, DIM), float("nan"))])
    same = [fit_projection(base, table, mapping, method="conversion").delta for table in (instruct, longer)]
    assert torch.equal(*same), "rows beyond the vocabulary are ignored"
    with pytest.raises(ValueError, match=r"\(240, 16\), the propagated one \(239, 16\)"):
        propagate_embeddings(adapted, fit_projection(base, instruct, mapping, method="swap"), out=adapted[1:])


@pytest.mark.parametrize("method", ["overlap", "conversion"])
def test_rows_that_are_not_finite_or_not_there_are_errors(random_map, method) -> None:
    base, instruct, _ = random_embeddings()
    mapping = random_map(old=OLD, new=NEW)
    instruct[mapping.segmentation[0]] = float("nan")
    with pytest.raises(ValueError, match="NaN"):
        fit_projection(base, instruct, mapping, method=method)
    empty = torch.zeros(NEW + 1, dtype=torch.int64)
    nothing = replace(mapping, segmentation=empty[:0], offsets=empty, shared=empty[:-1] > 0)
    with pytest.raises(ValueError, match="no rows"):
        fit_projection(base, base, nothing, method=method)


def test_swap_reads_no_row(random_map) -> None:
    base, _, adapted = random_embeddings()
    mapping = random_map(old=OLD, new=NEW)
    unread = torch.full_like(base, float("nan"))
    assert torch.equal(propagate(mapping, unread, unread, adapted, "swap"), adapted)
