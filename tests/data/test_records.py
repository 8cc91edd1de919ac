"""Rows of every format have their place; invalid rows are named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lep.data.records import read_records, read_source_records, write_jsonl
from lep.errors import DataError

ROWS = [{"a": 1, "b": ["x"]}, {"a": 2, "b": ["й"]}]


def lines(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_every_format_gives_the_rows_with_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n" + lines(ROWS))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines(ROWS).encode()))
    (tmp_path / "c.json").write_text(json.dumps(ROWS))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "d.parquet")
    for name, first in {"a.jsonl": 2, "b.jsonl.gz": 1, "c.json": 1, "d.parquet": 1}.items():
        records = list(read_records(tmp_path / name))
        assert [record.row for record in records] == ROWS, name
        assert [record.place for record in records] == [f"{tmp_path / name}:{first + i}" for i in range(2)]


def test_a_folder_gives_the_rows_of_its_data_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.jsonl").write_text(lines(ROWS[1:]))
    (tmp_path / "a.jsonl").write_text(lines(ROWS[:1]))
    (tmp_path / "info.json").write_text("{}")
    (tmp_path / "README.txt").write_text("about")
    assert [record.row for record in read_records(tmp_path)] == ROWS


def test_a_dataset_gives_the_rows(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(lines(ROWS))
    records = list(read_source_records(dataset=tmp_path))
    assert [record.row for record in records] == ROWS and records[1].place == f"{tmp_path}:2"


def test_a_source_is_files_or_a_dataset(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines(ROWS[:1]))
    (tmp_path / "b.jsonl").write_text(lines(ROWS[1:]))
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for source in ({"files": files}, {"dataset": tmp_path}):
        assert [record.row for record in read_source_records(**source)] == ROWS


def test_a_file_is_replaced_only_when_all_rows_are_written(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    write_jsonl(file, ROWS)
    assert [record.row for record in read_records(file)] == ROWS and "й" in file.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        write_jsonl(file, [{"a": 3}, {"a": object()}])
    assert [record.row for record in read_records(file)] == ROWS and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"a": 1}\n{broken', "a.jsonl:2: not JSON"),
        ("a.jsonl", "[1]", r"a.jsonl:1: expected an object, found '\[1\]'"),
        ("a.json", '{"a": 1}', "a.json: expected one list of objects; for one object a line, name the file .jsonl"),
        ("a.json", "[1", "a.json: damaged, or not what its name says"),
        ("a.parquet", "x", "a.parquet: damaged"),
        ("a.jsonl.gz", "x", "a.jsonl.gz: damaged"),
        ("a.csv", "a,b", "a.csv: expected rows as .jsonl or .json"),
    ],
)
def test_an_invalid_row_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_records(tmp_path / name))


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.jsonl: no such file or folder"):
        list(read_records(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match=r"no files of documents in this folder; expected .jsonl, .parquet"):
        list(read_records(tmp_path))
