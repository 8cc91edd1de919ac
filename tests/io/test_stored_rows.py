"""Rows in files are those of the tensor, however they are asked for, and land where they are put."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lep.core.table_rows import Rows, WritableRows
from lep.errors import CheckpointError
from lep.io.safetensors_files import read_header
from lep.io.stored_rows import StoredRows

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
ROWS = 40


def stored(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[StoredRows, torch.Tensor]:
    table = torch.randn(ROWS, 5).to(dtype)
    save_file({"a": torch.zeros(3), "table": table, "z": torch.ones(7)}, folder / "shard.safetensors")
    return StoredRows(read_header(folder / "shard.safetensors")["table"]), table


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[StoredRows, torch.Tensor]:
    return stored(tmp_path_factory.mktemp("rows"))


@given(st.lists(st.integers(0, ROWS - 1), max_size=60))
def test_rows_by_ids_are_the_tensors(shared, ids: list[int]) -> None:
    rows, table = shared
    assert torch.equal(rows[torch.tensor(ids, dtype=torch.int64)], table[ids])


@given(st.integers(-3, ROWS + 3), st.integers(-3, ROWS + 3))
def test_rows_by_slice_are_the_tensors(shared, start: int, stop: int) -> None:
    rows, table = shared
    assert torch.equal(rows[start:stop], table[start:stop])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_land_where_they_are_put_and_nowhere_else(tmp_path, dtype) -> None:
    rows, table = stored(tmp_path, dtype)
    assert isinstance(rows, Rows) and isinstance(rows, WritableRows)
    assert (tuple(rows.shape), len(rows), rows.dtype) == ((ROWS, 5), ROWS, dtype)
    ids = torch.tensor([39, 2, 11])
    table[3:9] = rows[3:9] = torch.randn(6, 5).to(dtype)
    table[ids] = rows[ids] = torch.randn(3, 5).to(dtype)
    after = load_file(tmp_path / "shard.safetensors")
    assert torch.equal(after["table"], table) and torch.equal(rows[:], table)
    assert (after["a"] == 0).all() and (after["z"] == 1).all()


def test_what_is_written_takes_the_dtype_of_the_table(tmp_path) -> None:
    rows, _ = stored(tmp_path, torch.bfloat16)
    values = torch.randn(ROWS, 5, dtype=torch.float64)
    rows[:] = values
    assert torch.equal(rows[:], values.bfloat16())


def test_as_many_rows_as_there_is_place_for(tmp_path) -> None:
    rows, _ = stored(tmp_path)
    for place in (slice(0, 3), slice(38, 44), torch.tensor([1, 2, 3])):
        with pytest.raises(ValueError, match="4 rows for"):
            rows[place] = torch.zeros(4, 5)


def test_a_file_that_is_cut_short_meanwhile_is_an_error(tmp_path) -> None:
    rows, _ = stored(tmp_path)
    with (tmp_path / "shard.safetensors").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(CheckpointError, match=r"shard\.safetensors: became shorter"):
        rows[:]
