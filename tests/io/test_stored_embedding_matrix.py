"""Rows read from files are those of the tensor, and rows written change nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from lep.core.embedding_matrix import EmbeddingMatrix, WritableEmbeddingMatrix
from lep.errors import CheckpointError
from lep.io.safetensors_files import read_header
from lep.io.stored_embedding_matrix import StoredEmbeddingMatrix

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
ROWS = 40


def stored(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[StoredEmbeddingMatrix, torch.Tensor]:
    matrix = torch.randn(ROWS, 5).to(dtype)
    save_file({"a": torch.zeros(3), "matrix": matrix, "z": torch.ones(7)}, folder / "shard.safetensors")
    return StoredEmbeddingMatrix(read_header(folder / "shard.safetensors")["matrix"]), matrix


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> tuple[StoredEmbeddingMatrix, torch.Tensor]:
    return stored(tmp_path_factory.mktemp("rows"))


@given(st.lists(st.integers(0, ROWS - 1), max_size=60))
def test_rows_by_ids_are_the_tensors(shared, ids: list[int]) -> None:
    rows, matrix = shared
    assert torch.equal(rows[torch.tensor(ids, dtype=torch.int64)], matrix[ids])


@given(st.integers(-3, ROWS + 3), st.integers(-3, ROWS + 3))
def test_rows_by_slice_are_the_tensors(shared, start: int, stop: int) -> None:
    rows, matrix = shared
    assert torch.equal(rows[start:stop], matrix[start:stop])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_written_to_their_place_and_nowhere_else(tmp_path, dtype) -> None:
    rows, matrix = stored(tmp_path, dtype)
    assert isinstance(rows, EmbeddingMatrix) and isinstance(rows, WritableEmbeddingMatrix)
    assert (tuple(rows.shape), len(rows), rows.dtype) == ((ROWS, 5), ROWS, dtype)
    ids = torch.tensor([39, 2, 11])
    matrix[3:9] = rows[3:9] = torch.randn(6, 5).to(dtype)
    matrix[ids] = rows[ids] = torch.randn(3, 5).to(dtype)
    after = load_file(tmp_path / "shard.safetensors")
    assert torch.equal(after["matrix"], matrix) and torch.equal(rows[:], matrix)
    assert (after["a"] == 0).all() and (after["z"] == 1).all()


def test_written_rows_get_the_dtype_of_the_matrix(tmp_path) -> None:
    rows, _ = stored(tmp_path, torch.bfloat16)
    values = torch.randn(ROWS, 5, dtype=torch.float64)
    rows[:] = values
    assert torch.equal(rows[:], values.bfloat16())


def test_values_and_rows_must_be_equally_many(tmp_path) -> None:
    rows, _ = stored(tmp_path)
    for selection in (slice(0, 3), slice(38, 44), torch.tensor([1, 2, 3])):
        with pytest.raises(ValueError, match="4 rows of values for"):
            rows[selection] = torch.zeros(4, 5)


def test_a_file_that_is_truncated_meanwhile_is_an_error(tmp_path) -> None:
    rows, _ = stored(tmp_path)
    with (tmp_path / "shard.safetensors").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(CheckpointError, match=r"shard\.safetensors: was truncated"):
        rows[:]
