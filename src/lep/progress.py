"""How long work tells that it goes on. Rooms report here; the command line decides what is shown.

Nothing below the command line prints: without a listener, reports go nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[float], None]
"""Told how many more units are done."""


class Listener(Protocol):
    """What shows progress."""

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        """Work of `total` units starts; `done` of them were done before an interruption."""

    def advance(self, amount: float) -> None:
        """So much more is done."""

    def note(self, text: str) -> None:
        """A line worth keeping."""

    def status(self, text: str) -> None:
        """How the work goes at this moment; the next replaces it."""

    def end(self) -> None:
        """The work is over, or was given up."""


_listener: ContextVar[Listener | None] = ContextVar("listener", default=None)
_working: ContextVar[bool] = ContextVar("working", default=False)


def listen(listener: Listener | None) -> None:
    """Send reports to this listener from now on."""
    _listener.set(listener)


def note(text: str) -> None:
    """Report a line worth keeping: a measurement on the way, a step that was skipped."""
    if listener := _listener.get():
        listener.note(text)


def status(text: str) -> None:
    """Report how the work goes at this moment: the loss of the last step."""
    if listener := _listener.get():
        listener.status(text)


@contextmanager
def progress(label: str, *, total: float, unit: str, done: float = 0) -> Iterator[Advance]:
    """Report work of known size: `with progress("training", total=n, unit="tokens") as advance: advance(4096)`.

    Of work inside other work only the label is told, as the status of that.
    """
    listener = _listener.get()
    if listener is None or _working.get():
        status(label)
        yield lambda amount: None
        return
    listener.begin(label, total, unit, done)
    working = _working.set(True)
    try:
        yield listener.advance
    finally:
        _working.reset(working)
        listener.end()
