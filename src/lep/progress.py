"""Progress of long work: code reports here, and the command line decides what is shown.

Nothing below the command line prints. Without a listener, reports are dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

Advance = Callable[[float], None]
"""Takes the number of further units that are done."""


class ProgressListener(Protocol):
    """Shows progress."""

    def begin(self, label: str, total: float, unit: str, completed: float) -> None:
        """Start work of known size.

        Args:
            label: Name of the work.
            total: Size of the work, in units.
            unit: Name of the units.
            completed: Units that were done before an interruption.
        """

    def advance(self, amount: float) -> None:
        """Count further units as done."""

    def log_message(self, text: str) -> None:
        """Show a line that stays."""

    def set_status(self, text: str) -> None:
        """Show the current state of the work, in place of the previous one."""

    def end(self) -> None:
        """End the work, finished or not."""


_listener: ContextVar[ProgressListener | None] = ContextVar("listener", default=None)
_is_tracking: ContextVar[bool] = ContextVar("is_tracking", default=False)


def set_listener(listener: ProgressListener | None) -> None:
    """Send reports to this listener from now on."""
    _listener.set(listener)


def log_message(text: str) -> None:
    """Report a line that stays, such as a measurement or a skipped step."""
    if listener := _listener.get():
        listener.log_message(text)


def set_status(text: str) -> None:
    """Report the current state of the work, such as the loss of the last step."""
    if listener := _listener.get():
        listener.set_status(text)


@contextmanager
def track_progress(label: str, *, total: float, unit: str, completed: float = 0) -> Iterator[Advance]:
    """Report work of known size. Nested work is reported only as the status of the outer one, by its label.

    >>> with track_progress("training", total=8192, unit="tokens") as advance:
    ...     advance(4096)

    Args:
        label: Name of the work.
        total: Size of the work, in units.
        unit: Name of the units, in the plural.
        completed: Units that were done before an interruption.

    Yields:
        A function that counts further units as done.
    """
    listener = _listener.get()
    if listener is None or _is_tracking.get():
        set_status(label)
        yield lambda amount: None
        return
    listener.begin(label, total, unit, completed)
    token = _is_tracking.set(True)
    try:
        yield listener.advance
    finally:
        _is_tracking.reset(token)
        listener.end()
