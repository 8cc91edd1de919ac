"""E_new = T · E_old, and shared rows bit by bit."""

from __future__ import annotations

import pytest
import torch

from lep.core import embedding_matrix
from lep.core.initialization import check_shapes, initialize_embeddings

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def bits(rows: torch.Tensor) -> torch.Tensor:
    return rows.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shared_rows_are_identical_in_every_bit(random_map, dtype) -> None:
    mapping = random_map(old=40, new=60)
    old = torch.randn(40, 8).to(dtype)
    old[:, 0] = -0.0
    old[:, 1] = torch.finfo(dtype).tiny / 2  # a subnormal number
    out = torch.full((60, 8), float("nan"), dtype=dtype)
    initialize_embeddings(old, mapping, out=out)
    sources = mapping.segmentation[mapping.offsets[:-1][mapping.shared]]
    assert torch.equal(bits(out[mapping.shared]), bits(old[sources]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [7 * 8, 1 << 24])
def test_composed_rows_are_means_with_multiplicity(random_map, dense, dtype, block, monkeypatch) -> None:
    monkeypatch.setattr(embedding_matrix, "BLOCK_ELEMENTS", block)
    mapping = random_map(old=40, new=60)
    old = torch.randn(40, 8).to(dtype)
    out = torch.full((60, 8), float("nan"), dtype=dtype)
    initialize_embeddings(old, mapping, out=out)
    expected = dense(mapping) @ old.double()
    tolerance = 2e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    assert torch.allclose(out.double(), expected, rtol=tolerance, atol=tolerance)


def test_no_row_is_rounded_twice(random_map, dense) -> None:
    """Half-precision rows are averaged in float32: the result is the rounded mean, not a mean of roundings."""
    mapping, old = random_map(old=40, new=60), torch.randn(40, 64).bfloat16()
    out = torch.empty(60, 64, dtype=torch.bfloat16)
    initialize_embeddings(old, mapping, out=out)
    exact = (dense(mapping) @ old.double()).bfloat16()
    assert (out != exact).double().mean() < 0.001


def test_diagnostics_count_and_measure(random_map, dense) -> None:
    mapping, old = random_map(old=40, new=60), torch.randn(40, 8)
    stats = initialize_embeddings(old, mapping, out=torch.empty(60, 8))
    norms = (dense(mapping) @ old.double()).norm(dim=1)
    assert (stats.copied, stats.composed) == (20, 40)
    assert stats.mean_segmentation_length == pytest.approx(float(mapping.lengths[~mapping.shared].double().mean()))
    assert stats.mean_norm_copied == pytest.approx(float(norms[mapping.shared].mean()), rel=1e-6)
    assert stats.mean_norm_composed == pytest.approx(float(norms[~mapping.shared].mean()), rel=1e-6)
    assert stats.mean_norm_composed < stats.mean_norm_copied, "means of independent rows are shorter"


def test_padding_rows_of_the_old_matrix_are_ignored(random_map) -> None:
    mapping, old = random_map(old=40, new=60), torch.randn(48, 8)
    padded, plain = torch.empty(60, 8), torch.empty(60, 8)
    initialize_embeddings(old, mapping, out=padded)
    initialize_embeddings(old[:40], mapping, out=plain)
    assert torch.equal(padded, plain)


def test_rows_beyond_the_vocabulary_are_the_mean_of_all_others(random_map, dense, monkeypatch) -> None:
    monkeypatch.setattr(embedding_matrix, "BLOCK_ELEMENTS", 7 * 8)
    mapping, old = random_map(old=40, new=60), torch.randn(40, 8)
    out = torch.full((64, 8), float("nan"))
    stats = initialize_embeddings(old, mapping, out=out)
    means = dense(mapping) @ old.double()
    assert torch.allclose(out[60:].double(), means.mean(dim=0).expand(4, 8), atol=1e-6)
    assert torch.allclose(out[:60].double(), means, atol=1e-6) and stats.copied + stats.composed == 60


def test_a_token_without_a_segmentation_is_an_error_not_a_zero_row(random_map) -> None:
    out = torch.full((60, 8), 7.0)
    with pytest.raises(ValueError, match=r"2 new tokens cannot be segmented.*\[1, 4\]"):
        initialize_embeddings(torch.randn(40, 8), random_map(old=40, new=60, missing=2), out=out)
    assert (out == 7).all(), "nothing was written"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ((39, 8), (60, 8), "the old matrix has 39 rows for 40"),
        ((40, 8), (59, 8), "the new matrix has 59 rows for 60"),
        ((40, 8), (60, 9), "8 columns, the new ones 9"),
    ],
)
def test_matrices_that_do_not_fit_are_errors(random_map, old, new, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_shapes(random_map(old=40, new=60), old=torch.zeros(old), new=torch.zeros(new))
