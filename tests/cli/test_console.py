"""Progress on a terminal is a bar; elsewhere it is a few plain lines."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from lep.cli import console as module
from lep.cli.console import ProgressBar, ProgressLog, show_progress, widen_console
from lep.progress import log_message, set_listener, set_status, track_progress


@pytest.fixture(autouse=True)
def reset_listener():
    yield
    set_listener(None)


def test_a_log_has_one_line_for_each_tenth_that_takes_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, out = [0.0], StringIO()
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    show_progress(Console(file=out, width=80))
    with track_progress("training", total=100, unit="tokens", completed=20) as advance:
        for seconds, amount in ((2.0, 5), (4.0, 5), (5.0, 10), (6.0, 0), (9.0, 75)):
            clock[0] = seconds
            set_status(f"loss {seconds:.0f}")
            advance(amount)
    log_message("done")
    assert out.getvalue().splitlines() == [
        "  training: 30 of 100 tokens; loss 4",
        "  training: 40 of 100 tokens; loss 6",
        "  training: 100 of 100 tokens; loss 9",
        "  done",
    ]


def test_a_terminal_has_a_bar() -> None:
    out = StringIO()
    show_progress(Console(file=out, width=120, force_terminal=True))
    with track_progress("training", total=100, unit="tokens") as advance:
        advance(50)
        set_status("loss 1.0")
        log_message("measured")
    assert "training" in out.getvalue() and "measured" in out.getvalue()


def test_listeners_ignore_reports_without_work() -> None:
    for listener in (ProgressBar(Console(file=StringIO())), ProgressLog(Console(file=StringIO()))):
        listener.set_status("idle")
        listener.end()
    assert ProgressBar(Console(file=StringIO())).progress is None


def test_only_logs_are_widened() -> None:
    assert widen_console(Console(width=80, file=StringIO()), 120).width == 120
    assert widen_console(Console(width=150, file=StringIO()), 120).width == 150
