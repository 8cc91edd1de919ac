"""How the command line shows progress: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from lep.progress import set_listener


class ProgressBar:
    """A bar with rate and time left, for terminals; a `ProgressListener`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress: Progress | None = None
        self.task_id = TaskID(0)

    def begin(self, label: str, total: float, unit: str, completed: float) -> None:
        """Show a bar.

        Args:
            label: Name of the work.
            total: Size of the work, in units.
            unit: Name of the units.
            completed: Units that are done already.
        """
        columns = [TextColumn(f"{{task.fields[{name}]}}") for name in ("unit", "rate", "status")]
        self.progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            *columns,
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        self.task_id = self.progress.add_task(
            label, total=round(total), completed=round(completed), unit=unit, rate="", status=""
        )
        self.progress.start()

    def advance(self, amount: float) -> None:
        """Move the bar and update the rate."""
        if self.progress:
            self.progress.advance(self.task_id, amount)
            speed = self.progress.tasks[0].speed
            self.progress.update(self.task_id, rate=f"{speed:,.0f}/s" if speed else "")

    def log_message(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(f"  {text}", style="dim", markup=False)

    def set_status(self, text: str) -> None:
        """Show a text next to the bar."""
        if self.progress:
            self.progress.update(self.task_id, status=text)

    def end(self) -> None:
        """Remove the bar."""
        if self.progress:
            self.progress.stop()
        self.progress = None


MIN_SECONDS_BETWEEN_LINES = 2.0
"""Between two lines about the same work; work that is done sooner has none."""


class ProgressLog:
    """Plain lines, for logs: one for each tenth of the work, or fewer where they would come too fast."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.label, self.unit, self.total, self.completed, self.reported_tenths = "", "", 1.0, 0.0, 0
        self.last_status, self.last_time = "", 0.0

    def begin(self, label: str, total: float, unit: str, completed: float) -> None:
        """Start counting.

        Args:
            label: Name of the work.
            total: Size of the work, in units.
            unit: Name of the units.
            completed: Units that are done already.
        """
        self.label, self.unit, self.total, self.completed = label, unit, max(total, 1), completed
        self.reported_tenths, self.last_status = int(10 * self.completed / self.total), ""
        self.last_time = time.monotonic()

    def advance(self, amount: float) -> None:
        """Print a line if another tenth is done."""
        self.completed += amount
        tenth, now = int(10 * self.completed / self.total), time.monotonic()
        if tenth > self.reported_tenths and now - self.last_time >= MIN_SECONDS_BETWEEN_LINES:
            self.reported_tenths, self.last_time = tenth, now
            status = f"; {self.last_status}" if self.last_status else ""
            self.log_message(
                f"{self.label}: {min(self.completed, self.total):,.0f} of {self.total:,.0f} {self.unit}{status}"
            )

    def log_message(self, text: str) -> None:
        """Print a line."""
        self.console.print(f"  {text}", markup=False, soft_wrap=True)

    def set_status(self, text: str) -> None:
        """Keep a text for the next line."""
        self.last_status = text

    def end(self) -> None:
        """Do nothing."""


def show_progress(console: Console) -> None:
    """Show progress on this console from now on."""
    set_listener(ProgressBar(console) if console.is_terminal else ProgressLog(console))


def widen_console(console: Console, min_width: int) -> Console:
    """Return a console at least `min_width` columns wide when output is no terminal, so that tables do not wrap."""
    return Console(width=max(console.width, min_width) if not console.is_terminal else None, highlight=False)
