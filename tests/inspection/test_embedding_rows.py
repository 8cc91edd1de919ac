"""Unusual rows: each kind is inspection and named with its tokens; the token decides whether it is a problem."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lep.inspection.embedding_rows import ROWS_PER_BLOCK, compute_row_statistics, find_duplicate_rows
from lep.inspection.inspect import inspect


class CountingMatrix:
    """A matrix that is read by blocks, and counts the rows that are read."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix, self.rows_read, self.largest_block = matrix, 0, 0

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        block = self.matrix[rows]
        self.rows_read += len(block)
        self.largest_block = max(self.largest_block, len(block))
        return block


def test_zero_and_non_finite_rows_of_normal_tokens_are_problems(model: Path, change_rows) -> None:
    def broken(matrix: Tensor) -> Tensor:
        matrix[300], matrix[400, 3], matrix[401, 0] = 0, float("nan"), float("inf")
        return matrix

    change_rows(model, broken)
    problems = inspect(model).problems
    assert any(
        "embed: 1 row of zeros: 300 '" in problem and "create this matrix again" in problem for problem in problems
    )
    assert any("embed: 2 rows with NaN or infinity: 400 '" in problem for problem in problems)


def test_zero_rows_of_special_tokens_and_of_padding_are_remarks(model: Path, change, change_rows) -> None:
    def padded(matrix: Tensor) -> Tensor:
        matrix[1] = 0
        return torch.cat((matrix, torch.zeros(12, 32)))

    change_rows(model, padded)
    change(model / "config.json", vocab_size=512)
    inspection = inspect(model)
    assert not inspection.problems
    assert any(
        "embed: 13 rows of zeros for special or unused ids: 1 '<|im_start|>', 500" in r for r in inspection.remarks
    )


def test_equal_rows_are_reported_in_groups(model: Path, change_rows) -> None:
    def doubled(matrix: Tensor) -> Tensor:
        matrix[[310, 320]], matrix[40] = matrix[300].clone(), matrix[41]
        return matrix

    change_rows(model, doubled)
    inspection = inspect(model)
    (remark,) = [remark for remark in inspection.remarks if "cannot distinguish them" in remark]
    assert remark.startswith("embed: 5 tokens in 2 groups have equal rows") and not inspection.problems
    assert remark.index("300 '") < remark.index("310 '") < remark.index("320 '") < remark.index("; 40 '")
    assert any(fact.name == "embed, equal" and fact.value == "5 rows in 2 groups" for fact in inspection.facts)


def test_rows_near_the_unused_ones_may_be_untrained(model: Path, change, change_rows) -> None:
    def untrained(matrix: Tensor) -> Tensor:
        center, generator = torch.randn(32), torch.Generator().manual_seed(0)
        matrix[[350, 351]] = center
        padding = center + 0.01 * torch.randn(12, 32, generator=generator)
        return torch.cat((10 * matrix[:350], matrix[350:352], 10 * matrix[352:], padding))

    change_rows(model, untrained)
    change(model / "config.json", vocab_size=512)
    (remark,) = [remark for remark in inspect(model).remarks if "mean of the 12 unused rows" in remark]
    assert remark.startswith("embed: 2 rows may be untrained") and ": 350 '" in remark and "351 '" in remark


def test_unused_rows_among_the_others_show_nothing(model: Path, change, change_rows) -> None:
    change_rows(model, lambda matrix: torch.cat((0.1 * matrix, matrix.mean(dim=0) + torch.randn(12, 32))))
    change(model / "config.json", vocab_size=512)
    inspection = inspect(model)
    assert not any("as near to the mean" in remark for remark in inspection.remarks)
    assert any(fact.value.startswith("not known") for fact in inspection.facts)


def test_short_rows_may_be_untrained(model: Path, change_rows) -> None:
    def short(matrix: Tensor) -> Tensor:
        matrix[123] *= 0.01
        return matrix

    change_rows(model, short)
    assert any(
        "embed: 1 row may be untrained, shorter than a tenth of the median" in remark
        for remark in inspect(model).remarks
    )


def test_both_matrices_of_an_untied_model_are_checked(make_model, tokenizers, change_rows, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "untied", tokenizers["byte_level"], tied=False)
    change_rows(folder, lambda matrix: matrix * (torch.arange(500) != 77)[:, None], name="lm_head.weight")
    assert [p.split(":")[0] for p in inspect(folder).problems] == ["head"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [8, 7, 6])
def test_statistics_read_each_row_once_in_blocks_and_find_equal_rows(dtype: torch.dtype, dim: int) -> None:
    matrix = torch.randn(3 * ROWS_PER_BLOCK + 5, dim, dtype=torch.float64).to(dtype)
    matrix[2 * ROWS_PER_BLOCK] = matrix[3]
    matrix[[ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, 3 * ROWS_PER_BLOCK + 4]] = matrix[10].clone()
    rows = CountingMatrix(matrix)
    statistics = compute_row_statistics(rows, center=None)
    assert rows.rows_read == len(matrix) and rows.largest_block == ROWS_PER_BLOCK
    assert torch.equal(statistics.norms, matrix.float().norm(dim=1)) and torch.equal(
        statistics.center_distances, statistics.norms
    )
    groups = find_duplicate_rows(rows, statistics.hashes, torch.arange(len(matrix)))
    equal = [[10, ROWS_PER_BLOCK - 1, ROWS_PER_BLOCK, 3 * ROWS_PER_BLOCK + 4], [3, 2 * ROWS_PER_BLOCK]]
    extra = {tuple(row) for row in matrix.double().tolist()}
    assert groups[0] == equal[0] and equal[1] in groups and sum(map(len, groups)) >= len(matrix) - len(extra)
    assert rows.rows_read < len(matrix) + ROWS_PER_BLOCK  # the second pass reads only rows that may be equal


def test_different_rows_with_equal_hashes_are_no_duplicates() -> None:
    matrix = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    assert find_duplicate_rows(matrix, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1])) == []
    assert find_duplicate_rows(matrix, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 2, 1])) == [[0, 2]]


def test_many_equal_rows_are_one_group_across_blocks() -> None:
    matrix = torch.ones(3 * ROWS_PER_BLOCK, 4)
    (group,) = find_duplicate_rows(
        matrix, compute_row_statistics(matrix, center=None).hashes, torch.arange(3 * ROWS_PER_BLOCK)
    )
    assert group == list(range(3 * ROWS_PER_BLOCK))
