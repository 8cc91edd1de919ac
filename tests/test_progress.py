"""What is reported of work, and of work inside it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lep.progress import listen, note, progress


class Heard:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        self.told.append(f"begin {label}")

    def advance(self, amount: float) -> None:
        self.told.append(f"advance {amount:g}")

    def note(self, text: str) -> None:
        self.told.append(f"note {text}")

    def status(self, text: str) -> None:
        self.told.append(f"status {text}")

    def end(self) -> None:
        self.told.append("end")


@pytest.fixture
def heard() -> Iterator[Heard]:
    listener = Heard()
    listen(listener)
    yield listener
    listen(None)


def test_work_inside_other_work_is_its_status(heard: Heard) -> None:
    with progress("training", total=2, unit="tokens") as advance:
        advance(1)
        with progress("asking", total=9, unit="requests") as inner:
            inner(5)
            note("asked")
        advance(1)
    assert heard.told == ["begin training", "advance 1", "status asking", "note asked", "advance 1", "end"]


def test_after_work_that_failed_other_work_is_told(heard: Heard) -> None:
    with pytest.raises(ValueError), progress("first", total=1, unit="tokens"):
        raise ValueError
    with progress("second", total=1, unit="tokens"):
        pass
    assert heard.told == ["begin first", "end", "begin second", "end"]
