"""Lines of a corpus are indexed, and long documents are split after a line."""

from __future__ import annotations

import numpy as np
import pytest

from lep.data import packing
from lep.data.packing import DocumentSplitter, index_jsonl
from lep.errors import DataError


def split(
    length: int, *, newline_ids: tuple[int, ...] = (), sequence_length: int = 10, end_id: int | None = 99
) -> list[list[int]]:
    """A document with ids 1 to `length`, lines ending in some of them, in parts with prefix 0."""
    contains_newline = np.isin(np.arange(100), newline_ids)
    splitter = DocumentSplitter(
        sequence_length=sequence_length, prefix_id=0, end_id=end_id, contains_newline=contains_newline
    )
    chunks = list(splitter.split(np.arange(1, length + 1, dtype=np.int32)))
    assert [is_last for _, is_last in chunks] == [False] * (len(chunks) - 1) + [True]
    return [chunk.tolist() for chunk, _ in chunks]


def test_a_document_that_fits_is_one_chunk_with_an_end() -> None:
    assert split(8, newline_ids=(3,)) == [[0, *range(1, 9), 99]]
    assert split(9, newline_ids=(3,), end_id=None) == [[0, *range(1, 10)]]


def test_a_longer_document_is_split_after_the_last_line_that_fits() -> None:
    assert split(20, newline_ids=(2, 5, 7, 12)) == [[0, *range(1, 8)], [0, *range(8, 13)], [0, *range(13, 21), 99]]


def test_a_chunk_fills_at_least_half_a_sample() -> None:
    assert split(12, newline_ids=(4,)) == [[0, *range(1, 5)], [0, *range(5, 13), 99]]
    assert split(12, newline_ids=(3,)) == [[0, *range(1, 10)], [0, 10, 11, 12, 99]]


def test_the_end_is_never_alone_in_a_chunk() -> None:
    assert split(9, newline_ids=(9,)) == [[0, *range(1, 9)], [0, 9, 99]]
    assert split(18) == [[0, *range(1, 10)], [0, *range(10, 18)], [0, 18, 99]]
    assert split(3, sequence_length=3) == [[0, 1, 2], [0, 3, 99]]


@pytest.mark.parametrize("length", [*range(1, 60)])
def test_chunks_have_each_token_once_in_order_and_fit(length: int) -> None:
    for end_id in (99, None):
        chunks = split(length, newline_ids=tuple(range(4, 60, 7)), end_id=end_id)
        assert [id_ for chunk in chunks for id_ in chunk if id_ not in (0, 99)] == list(range(1, length + 1))
        assert max(map(len, chunks)) <= 10 and all(chunk[0] == 0 for chunk in chunks)


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\nb", "\n\nab\n\n", "ä\r\n" * 40])
def test_lines_are_found_as_python_finds_them(tmp_path, text, monkeypatch) -> None:
    monkeypatch.setattr(packing, "_READ_CHUNK_BYTES", 3)
    file = tmp_path / "file"
    file.write_bytes(text.encode())
    if not text:
        with pytest.raises(DataError, match="holds no documents to train on"):
            index_jsonl(file)
        return
    with file.open("rb") as stream:
        lengths = [len(line) for line in stream]
    assert index_jsonl(file).offsets.tolist() == np.cumsum([0, *lengths])[:-1].tolist()
