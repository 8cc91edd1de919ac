"""Work reports its progress; nested work reports only a status."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lep.progress import log_message, set_listener, track_progress


class RecordingListener:
    """Records all reports."""

    def __init__(self) -> None:
        self.reports: list[str] = []

    def begin(self, label: str, total: float, unit: str, completed: float) -> None:
        self.reports.append(f"begin {label}")

    def advance(self, amount: float) -> None:
        self.reports.append(f"advance {amount:g}")

    def log_message(self, text: str) -> None:
        self.reports.append(f"note {text}")

    def set_status(self, text: str) -> None:
        self.reports.append(f"status {text}")

    def end(self) -> None:
        self.reports.append("end")


@pytest.fixture
def listener() -> Iterator[RecordingListener]:
    recording = RecordingListener()
    set_listener(recording)
    yield recording
    set_listener(None)


def test_nested_work_is_reported_as_a_status(listener: RecordingListener) -> None:
    with track_progress("training", total=2, unit="tokens") as advance:
        advance(1)
        with track_progress("asking", total=9, unit="requests") as inner:
            inner(5)
            log_message("asked")
        advance(1)
    assert listener.reports == ["begin training", "advance 1", "status asking", "note asked", "advance 1", "end"]


def test_work_after_a_failure_is_reported(listener: RecordingListener) -> None:
    with pytest.raises(ValueError), track_progress("first", total=1, unit="tokens"):
        raise ValueError
    with track_progress("second", total=1, unit="tokens"):
        pass
    assert listener.reports == ["begin first", "end", "begin second", "end"]
