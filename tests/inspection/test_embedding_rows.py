"""Rows that are odd: each sort is found, told with its tokens, and is wrong or not by what its token is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lep.inspection.embedding_rows import BLOCK, duplicates, scan
from lep.inspection.inspect import inspect


class Counting:
    """A table that gives blocks only, and counts the rows that it gave."""

    def __init__(self, table: Tensor) -> None:
        self.table, self.given, self.most = table, 0, 0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, rows: slice | Tensor) -> Tensor:
        found = self.table[rows]
        self.given, self.most = self.given + len(found), max(self.most, len(found))
        return found


def test_zero_and_bad_rows_of_tokens_are_wrong(model: Path, change_rows) -> None:
    def broken(table: Tensor) -> Tensor:
        table[300], table[400, 3], table[401, 0] = 0, float("nan"), float("inf")
        return table

    change_rows(model, broken)
    problems = inspect(model).problems
    assert any("embed: 1 row of zeros: 300 '" in problem and "make this table again" in problem for problem in problems)
    assert any("embed: 2 rows with NaN or infinity: 400 '" in problem for problem in problems)


def test_zero_rows_of_special_tokens_and_of_padding_are_remarks(model: Path, change, change_rows) -> None:
    def padded(table: Tensor) -> Tensor:
        table[1] = 0
        return torch.cat((table, torch.zeros(12, 32)))

    change_rows(model, padded)
    change(model / "config.json", vocab_size=512)
    found = inspect(model)
    assert not found.problems
    assert any("embed: 13 rows of zeros of special or unused ids: 1 '<|im_start|>', 500" in r for r in found.remarks)


def test_equal_rows_are_told_in_groups(model: Path, change_rows) -> None:
    def doubled(table: Tensor) -> Tensor:
        table[[310, 320]], table[40] = table[300].clone(), table[41]
        return table

    change_rows(model, doubled)
    found = inspect(model)
    (words,) = [remark for remark in found.remarks if "cannot tell these tokens apart" in remark]
    assert words.startswith("embed: 5 rows of tokens in 2 groups are equal") and not found.problems
    assert words.index("300 '") < words.index("310 '") < words.index("320 '") < words.index("; 40 '")
    assert any(fact.name == "embed, alike" and fact.value == "5 rows in 2 groups" for fact in found.facts)


def test_rows_near_the_unused_ones_were_never_trained(model: Path, change, change_rows) -> None:
    def untrained(table: Tensor) -> Tensor:
        centre, chance = torch.randn(32), torch.Generator().manual_seed(0)
        table[[350, 351]] = centre
        padding = centre + 0.01 * torch.randn(12, 32, generator=chance)
        return torch.cat((10 * table[:350], table[350:352], 10 * table[352:], padding))

    change_rows(model, untrained)
    change(model / "config.json", vocab_size=512)
    (words,) = [remark for remark in inspect(model).remarks if "mean of the 12 unused rows" in remark]
    assert words.startswith("embed: 2 rows as near") and "as if never trained: 350 '" in words and "351 '" in words


def test_unused_rows_among_the_others_tell_nothing(model: Path, change, change_rows) -> None:
    change_rows(model, lambda table: torch.cat((0.1 * table, table.mean(dim=0) + torch.randn(12, 32))))
    change(model / "config.json", vocab_size=512)
    found = inspect(model)
    assert not any("as near to the mean" in remark for remark in found.remarks)
    assert any("cannot be told" in fact.value for fact in found.facts)


def test_short_rows_were_never_trained(model: Path, change_rows) -> None:
    def short(table: Tensor) -> Tensor:
        table[123] *= 0.01
        return table

    change_rows(model, short)
    assert any("embed: 1 row shorter than a tenth of the median" in remark for remark in inspect(model).remarks)


def test_both_tables_of_an_untied_model_are_read(make_model, tokenizers, change_rows, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "untied", tokenizers["byte_level"], tied=False)
    change_rows(folder, lambda table: table * (torch.arange(500) != 77)[:, None], name="lm_head.weight")
    assert [p.split(":")[0] for p in inspect(folder).problems] == ["head"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("dim", [8, 7, 6])
def test_a_scan_reads_each_row_once_in_blocks_and_finds_equal_rows(dtype: torch.dtype, dim: int) -> None:
    table = torch.randn(3 * BLOCK + 5, dim, dtype=torch.float64).to(dtype)
    table[2 * BLOCK] = table[3]
    table[[BLOCK - 1, BLOCK, 3 * BLOCK + 4]] = table[10].clone()
    rows = Counting(table)
    found = scan(rows, centre=None)
    assert rows.given == len(table) and rows.most == BLOCK
    assert torch.equal(found.norms, table.float().norm(dim=1)) and torch.equal(found.distances, found.norms)
    groups = duplicates(rows, found.keys, torch.arange(len(table)))
    equal = [[10, BLOCK - 1, BLOCK, 3 * BLOCK + 4], [3, 2 * BLOCK]]
    extra = {tuple(row) for row in table.double().tolist()}
    assert groups[0] == equal[0] and equal[1] in groups and sum(map(len, groups)) >= len(table) - len(extra)
    assert rows.given < len(table) + BLOCK  # the second look reads only rows that may be equal


def test_equal_keys_of_other_rows_are_no_duplicates() -> None:
    table = torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0]])
    assert duplicates(table, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 1])) == []
    assert duplicates(table, torch.zeros(3, dtype=torch.int64), torch.tensor([0, 2, 1])) == [[0, 2]]


def test_many_equal_rows_are_one_group_across_blocks() -> None:
    table = torch.ones(3 * BLOCK, 4)
    (group,) = duplicates(table, scan(table, centre=None).keys, torch.arange(3 * BLOCK))
    assert group == list(range(3 * BLOCK))
