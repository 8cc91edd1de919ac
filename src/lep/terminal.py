"""How the command shows that work goes on: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn


class Bar:
    """A bar with rate and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        what = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        rate = (TextColumn("{task.fields[unit]}"), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
        self.bar = Progress(*what, *rate, console=self.console, transient=True)
        self.task = self.bar.add_task(label, total=round(total), completed=round(done), unit=unit, rate="")
        self.bar.start()

    def advance(self, amount: float) -> None:
        if self.bar:
            self.bar.advance(self.task, amount)
            speed = self.bar.tasks[0].speed
            self.bar.update(self.task, rate=f"{speed:,.0f}/s" if speed else "")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", style="dim", markup=False)

    def end(self) -> None:
        if self.bar:
            self.bar.stop()
        self.bar = None


class Lines:
    """Plain lines, for logs: one for each tenth of the work."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.label, self.unit, self.total, self.done, self.told = "", "", 1.0, 0.0, 0

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        self.label, self.unit, self.total, self.done = label, unit, max(total, 1), done
        self.told = int(10 * self.done / self.total)

    def advance(self, amount: float) -> None:
        self.done += amount
        if (tenth := int(10 * self.done / self.total)) > self.told:
            self.told = tenth
            self.note(f"{self.label}: {min(self.done, self.total):,.0f} of {self.total:,.0f} {self.unit}")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False, soft_wrap=True)

    def end(self) -> None:
        return
