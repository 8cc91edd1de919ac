"""E_new = T · E_old, and shared rows bit by bit."""

from __future__ import annotations

import pytest
import torch

from lep.core import table_rows as rows
from lep.core.initialization import check_shapes, initialize

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


def bits(rows: torch.Tensor) -> torch.Tensor:
    return rows.contiguous().view(torch.uint8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_shared_rows_are_identical_in_every_bit(random_map, dtype) -> None:
    found = random_map(old=40, new=60)
    old = torch.randn(40, 8).to(dtype)
    old[:, 0] = -0.0
    old[:, 1] = torch.finfo(dtype).tiny / 2  # a subnormal number
    out = torch.full((60, 8), float("nan"), dtype=dtype)
    initialize(old, found, out=out)
    sources = found.pieces[found.offsets[:-1][found.shared]]
    assert torch.equal(bits(out[found.shared]), bits(old[sources]))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("block", [7 * 8, 1 << 24])
def test_composed_rows_are_means_with_multiplicity(random_map, dense, dtype, block, monkeypatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", block)
    found = random_map(old=40, new=60)
    old = torch.randn(40, 8).to(dtype)
    out = torch.full((60, 8), float("nan"), dtype=dtype)
    initialize(old, found, out=out)
    expected = dense(found) @ old.double()
    tolerance = 2e-6 if dtype == torch.float32 else 2 * torch.finfo(dtype).eps
    assert torch.allclose(out.double(), expected, rtol=tolerance, atol=tolerance)


def test_no_row_is_rounded_twice(random_map, dense) -> None:
    """Half-precision rows are averaged in float32: the result is the rounded mean, not a mean of roundings."""
    found, old = random_map(old=40, new=60), torch.randn(40, 64).bfloat16()
    out = torch.empty(60, 64, dtype=torch.bfloat16)
    initialize(old, found, out=out)
    exact = (dense(found) @ old.double()).bfloat16()
    assert (out != exact).double().mean() < 0.001


def test_diagnostics_count_and_measure(random_map, dense) -> None:
    found, old = random_map(old=40, new=60), torch.randn(40, 8)
    told = initialize(old, found, out=torch.empty(60, 8))
    norms = (dense(found) @ old.double()).norm(dim=1)
    assert (told.copied, told.composed) == (20, 40)
    assert told.mean_pieces == pytest.approx(float(found.lengths[~found.shared].double().mean()))
    assert told.norm_copied == pytest.approx(float(norms[found.shared].mean()), rel=1e-6)
    assert told.norm_composed == pytest.approx(float(norms[~found.shared].mean()), rel=1e-6)
    assert told.norm_composed < told.norm_copied, "means of independent rows are shorter"


def test_padding_rows_of_the_old_table_are_ignored(random_map) -> None:
    found, old = random_map(old=40, new=60), torch.randn(48, 8)
    padded, plain = torch.empty(60, 8), torch.empty(60, 8)
    initialize(old, found, out=padded)
    initialize(old[:40], found, out=plain)
    assert torch.equal(padded, plain)


def test_rows_past_the_vocabulary_become_the_mean_of_all_others(random_map, dense, monkeypatch) -> None:
    monkeypatch.setattr(rows, "BLOCK", 7 * 8)
    found, old = random_map(old=40, new=60), torch.randn(40, 8)
    out = torch.full((64, 8), float("nan"))
    told = initialize(old, found, out=out)
    means = dense(found) @ old.double()
    assert torch.allclose(out[60:].double(), means.mean(dim=0).expand(4, 8), atol=1e-6)
    assert torch.allclose(out[:60].double(), means, atol=1e-6) and told.copied + told.composed == 60


def test_a_token_without_pieces_is_an_error_not_a_zero_row(random_map) -> None:
    out = torch.full((60, 8), 7.0)
    with pytest.raises(ValueError, match=r"2 new tokens have no pieces.*\[1, 4\]"):
        initialize(torch.randn(40, 8), random_map(old=40, new=60, missing=2), out=out)
    assert (out == 7).all(), "nothing was written"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ((39, 8), (60, 8), "the old table has 39 rows for 40"),
        ((40, 8), (59, 8), "the new table has 59 rows for 60"),
        ((40, 8), (60, 9), "8 columns, the new ones 9"),
    ],
)
def test_tables_that_do_not_fit_are_errors(random_map, old, new, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_shapes(random_map(old=40, new=60), old=torch.zeros(old), new=torch.zeros(new))
