"""Lines of a corpus are found, and documents become parts that fit into a block: whole, or cut after a line."""

from __future__ import annotations

import numpy as np
import pytest

from lep.data import packing
from lep.data.packing import Cutter, find_lines
from lep.errors import DataError


def parts(length: int, *, lines: tuple[int, ...] = (), block: int = 10, end: int | None = 99) -> list[list[int]]:
    """A document with ids 1 to `length`, lines ending in some of them, in parts with prefix 0."""
    ends_line = np.isin(np.arange(100), lines)
    cut = Cutter(block=block, prefix=0, end=end, ends_line=ends_line)
    found = list(cut.parts(np.arange(1, length + 1, dtype=np.int32)))
    assert [last for _, last in found] == [False] * (len(found) - 1) + [True]
    return [part.tolist() for part, _ in found]


def test_a_document_that_fits_is_whole_and_ends() -> None:
    assert parts(8, lines=(3,)) == [[0, *range(1, 9), 99]]
    assert parts(9, lines=(3,), end=None) == [[0, *range(1, 10)]]


def test_a_longer_one_is_cut_after_the_last_line_that_fits() -> None:
    assert parts(20, lines=(2, 5, 7, 12)) == [[0, *range(1, 8)], [0, *range(8, 13)], [0, *range(13, 21), 99]]


def test_no_less_than_half_a_block_is_filled() -> None:
    assert parts(12, lines=(4,)) == [[0, *range(1, 5)], [0, *range(5, 13), 99]]
    assert parts(12, lines=(3,)) == [[0, *range(1, 10)], [0, 10, 11, 12, 99]]


def test_the_end_never_stands_alone() -> None:
    assert parts(9, lines=(9,)) == [[0, *range(1, 9)], [0, 9, 99]]
    assert parts(18) == [[0, *range(1, 10)], [0, *range(10, 18)], [0, 18, 99]]
    assert parts(3, block=3) == [[0, 1, 2], [0, 3, 99]]


@pytest.mark.parametrize("length", [*range(1, 60)])
def test_parts_hold_each_token_once_in_order_and_fit(length: int) -> None:
    for end in (99, None):
        found = parts(length, lines=tuple(range(4, 60, 7)), end=end)
        assert [id_ for part in found for id_ in part if id_ not in (0, 99)] == list(range(1, length + 1))
        assert max(map(len, found)) <= 10 and all(part[0] == 0 for part in found)


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\nb", "\n\nab\n\n", "ä\r\n" * 40])
def test_lines_are_found_as_python_finds_them(tmp_path, text, monkeypatch) -> None:
    monkeypatch.setattr(packing, "_READ_BYTES", 3)
    file = tmp_path / "file"
    file.write_bytes(text.encode())
    if not text:
        with pytest.raises(DataError, match="holds no documents to train on"):
            find_lines(file)
        return
    with file.open("rb") as stream:
        lengths = [len(line) for line in stream]
    assert find_lines(file).offsets.tolist() == np.cumsum([0, *lengths])[:-1].tolist()
