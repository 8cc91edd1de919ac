"""What the command shows: that work goes on, as a bar on a terminal or as plain lines, and what came of it."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from lep.errors import UsageError
from lep.extras import need
from lep.progress import listen


class Bar:
    """A bar with rate and time left."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Progress | None = None
        self.task = TaskID(0)

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        what = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        told = [TextColumn(f"{{task.fields[{name}]}}") for name in ("unit", "rate", "status")]
        self.bar = Progress(*what, *told, TimeRemainingColumn(), console=self.console, transient=True)
        self.task = self.bar.add_task(label, total=round(total), completed=round(done), unit=unit, rate="", status="")
        self.bar.start()

    def advance(self, amount: float) -> None:
        if self.bar:
            self.bar.advance(self.task, amount)
            speed = self.bar.tasks[0].speed
            self.bar.update(self.task, rate=f"{speed:,.0f}/s" if speed else "")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", style="dim", markup=False)

    def status(self, text: str) -> None:
        if self.bar:
            self.bar.update(self.task, status=text)

    def end(self) -> None:
        if self.bar:
            self.bar.stop()
        self.bar = None


SECONDS = 2.0
"""Between two lines of one work; what is done sooner has none."""


class Lines:
    """Plain lines, for logs: one for each tenth of the work, or fewer where that would be many at once."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.label, self.unit, self.total, self.done, self.told = "", "", 1.0, 0.0, 0
        self.last_status, self.last_time = "", 0.0

    def begin(self, label: str, total: float, unit: str, done: float) -> None:
        self.label, self.unit, self.total, self.done = label, unit, max(total, 1), done
        self.told, self.last_status, self.last_time = int(10 * self.done / self.total), "", time.monotonic()

    def advance(self, amount: float) -> None:
        self.done += amount
        tenth, now = int(10 * self.done / self.total), time.monotonic()
        if tenth > self.told and now - self.last_time >= SECONDS:
            self.told, self.last_time = tenth, now
            status = f"; {self.last_status}" if self.last_status else ""
            self.note(f"{self.label}: {min(self.done, self.total):,.0f} of {self.total:,.0f} {self.unit}{status}")

    def note(self, text: str) -> None:
        self.console.print(f"  {text}", markup=False, soft_wrap=True)

    def status(self, text: str) -> None:
        self.last_status = text

    def end(self) -> None:
        return


def follow(console: Console) -> None:
    """Show from now on how work goes on."""
    listen(Bar(console) if console.is_terminal else Lines(console))


def summary(step: Any, did: bool, console: Console) -> None:
    """What a finished step is worth telling."""
    from lep.io.artifact import read_manifest

    manifest = read_manifest(step.out)
    words = f"done in {manifest.seconds:.0f} s, {manifest.peak_memory_bytes / 2**30:.1f} GiB" if did else "was done"
    console.print(f"  {words}", style="dim")
    if step.room == "evaluate":
        _evaluation(manifest.numbers, console)
    if step.room == "retokenize":
        _vocabulary(manifest.numbers, console)
    if step.room == "advise":
        _advice(step, manifest.numbers, console)
    if step.room == "pretrain":
        _pretraining(manifest.numbers, console)
    if step.room == "propagate":
        _propagation(manifest.numbers, console)
    if step.room == "report":
        _beside_paper(manifest.numbers, console)
        console.print(f"  open {step.out / 'index.html'}", markup=False, soft_wrap=True)


def _vocabulary(numbers: Mapping[str, Any], console: Console) -> None:
    console.print(
        f"  {numbers['vocabulary_size']:,} tokens: {numbers['kept_tokens']:,} of the base's {numbers['old_tokens']:,}, "
        f"{numbers['new_tokens']:,} new; what {numbers['kind']} promises is proved",
        soft_wrap=True,
    )
    for language, change in numbers["symbols_per_token"].items():
        words = f"{change['after']:.2f} symbols per token, before {change['before']:.2f}"
        console.print(f"  {language}: {words}", markup=False)


def _advice(step: Any, numbers: Mapping[str, Any], console: Console) -> None:
    from lep.reporting.tables.vocabulary_sizing import assumptions, parse_advised, tables, why

    advised = parse_advised(numbers)
    wide = widened(console, 120)
    for found in tables(advised):
        table = Table(title=found.title, title_justify="left", title_style="bold")
        for heading in found.headings:
            table.add_column(heading, justify="right")
        for i, row in enumerate(found.rows):
            table.add_row(*row, style="bold" if i == found.marked else None)
        wide.print(table)
    for sentence in assumptions(advised):
        console.print(f"· {sentence}", style="dim", markup=False, soft_wrap=True)
    console.print(Text(" ".join(why(advised)), style="bold"), soft_wrap=True)
    console.print(f"  see {step.out / 'advice.svg'}", markup=False, soft_wrap=True)
    if advised.recommendation.new_tokens:
        console.print(f"  then {_next(step.settings, advised.recommendation.new_tokens)}", markup=False, soft_wrap=True)


def _next(settings: Any, new_tokens: int) -> str:
    """The command that makes the recommended vocabulary."""
    mixture = ", ".join(f"{language}: {share:g}" for language, share in (settings.mixture or {}).items())
    given = {"base": settings.base, "corpus": settings.corpus, "kind": settings.kind}
    given |= {"mixture": f"{{{mixture}}}"} if mixture else {}
    given |= {"kept_tokens": settings.kept_tokens} if settings.kept_tokens else {}
    words = [f"{key}={value}" for key, value in (given | {"new_tokens": new_tokens, "out": "…"}).items()]
    return shlex.join(["lep", "retokenize", *words])


def _pretraining(numbers: Mapping[str, Any], console: Console) -> None:
    best = next(row for row in numbers["curve"] if row["step"] == numbers["best_step"])
    bits = ", ".join(f"{language} {value:.4f}" for language, value in best["bits_per_byte"].items())
    used = f", {numbers['utilisation']:.0%} of what the machine can do" if numbers["utilisation"] else ""
    rare = numbers["new_tokens"]
    console.print(f"  step {best['step']} is the best: held-out bits per byte {bits}", markup=False, soft_wrap=True)
    console.print(
        f"  {numbers['tokens_per_second']:,.0f} tokens/s{used}; of {rare['known']:,} new tokens the samples hold "
        f"{rare['never_seen']:,} never, {rare['seen_less_than_100_times']:,} less than 100 times",
        markup=False,
        soft_wrap=True,
    )


def compare_trainings(steps: Sequence[Any], console: Console) -> None:
    """Several results of `pretrain` side by side, the best first."""
    from lep.io.artifact import read_manifest

    rows = []
    for step in steps:
        numbers = read_manifest(step.out).numbers
        rows.append((next(row for row in numbers["curve"] if row["step"] == numbers["best_step"]), step, numbers))
    rows.sort(key=lambda row: row[0]["score"])
    languages = list(rows[0][0]["bits_per_byte"])
    table = Table("pretrain", "best step", *(f"bits per byte, {language}" for language in languages), "tokens/s")
    for i, (best, step, numbers) in enumerate(rows):
        bits = [f"{best['bits_per_byte'][language]:.4f}" for language in languages]
        speed = f"{numbers['tokens_per_second']:,.0f}"
        table.add_row(step.address, f"{best['step']:,}", *bits, speed, style="bold" if i == 0 else None)
    widened(console, 120).print(table)


def _propagation(numbers: Mapping[str, Any], console: Console) -> None:
    table = Table("", "method", "residual", "on rows kept from the fit", "rank", "condition")
    for name, fit in numbers["tables"].items():
        told = [fit["residual"], fit["residual_heldout"], fit["rank"], fit["condition"]]
        table.add_row(name, fit["method"], *("–" if value is None else f"{value:,.3g}" for value in told))
        for method, error in fit.get("tried", {}).items():
            table.add_row("", f"  {method}", "", "–" if error is None else f"{error:,.3g}", style="dim")
    console.print(table)


def _evaluation(numbers: Mapping[str, Any], console: Console) -> None:
    from lep.results.stages import parse_evaluation

    found = parse_evaluation(numbers)
    for tell in (_main, _benchmark, _efficiency, _side_effects):
        tell(found, console)


def _main(evaluated: Any, console: Console) -> None:
    from lep.reporting.tables.main import main_table

    found = main_table(evaluated)
    if found.columns:
        table = Table("model", *map(str, found.columns))
        for row in found.rows:
            table.add_row(row.model, *map(str, row.cells))
        widened(console, 140).print(table)


def _benchmark(evaluated: Any, console: Console) -> None:
    """Scores by group, with their differences to the reference, and what they leave out."""
    from lep.reporting.tables.benchmark import scores

    if not evaluated.benchmark:
        return
    found = scores(evaluated.benchmark)
    _grid(found.groups, "Darumeru: score, 95 % interval", found.reference, console)
    for remark in found.remarks:
        console.print(f"  · {remark}", style="dim", markup=False, soft_wrap=True)


def _efficiency(evaluated: Any, console: Console) -> None:
    """The text that was read when speed was measured."""
    from lep.reporting.tables.efficiency import by_text, reference

    if efficiency := evaluated.efficiency:
        grid = by_text(efficiency)[0]
        _grid(grid, f"Speed and memory, {grid.title}", reference(efficiency), console)


def _side_effects(evaluated: Any, console: Console) -> None:
    from lep.reporting.tables.side_effects import grids, reference

    if effects := evaluated.side_effects:
        for grid in grids(effects):
            _grid(grid, grid.title, reference(effects), console)


def _grid(grid: Any, title: str, reference: str, console: Console) -> None:
    compared = any(cell.change for line in grid.lines for cell in line.cells)
    console.print(Text(f"{title}, and against {reference}" if compared else title, style="bold"))
    table = Table("model", *grid.columns)
    for line in grid.lines:
        table.add_row(line.name, *map(str, line.cells))
    widened(console, 140).print(table)


def _beside_paper(numbers: Mapping[str, Any], console: Console) -> None:
    """Our scores and the paper's, and what differs in how they were measured."""
    from lep.reporting.formatting import score, signed
    from lep.reporting.tables.paper_comparison import parse_beside

    for one in parse_beside(numbers.get("paper", ())):
        console.print(Text(f"{one.table}, {one.row}", style="bold"))
        table = Table()
        for heading in ("", *(pair.column for pair in one.pairs)):
            table.add_column(heading, justify="right" if heading else "left")
        table.add_row("the paper", *(score(pair.paper) for pair in one.pairs))
        table.add_row(one.model, *(pair.shown for pair in one.pairs))
        table.add_row("difference", *(signed(pair.difference) for pair in one.pairs))
        widened(console, 120).print(table)
        for remark in one.remarks:
            console.print(f"  · {remark}", style="dim", markup=False, soft_wrap=True)


def widened(console: Console, width: int) -> Console:
    """A console of at least so many columns where no terminal is that wide tables would not fit into."""
    return Console(width=max(console.width, width) if not console.is_terminal else None, highlight=False)


def expectations(steps: Sequence[Any], console: Console, *, on: str | None) -> None:
    """What each step will take, what was guessed, and what all of them take together."""
    from lep.estimation.hardware import named_machine, this_machine

    try:
        need("train", what="an estimate")
    except UsageError as error:
        console.print(f"  · {error}", style="dim", markup=False, soft_wrap=True)
        return
    from lep.estimation.report import estimate, lines, remarks, summed

    machine = named_machine(on) if on else this_machine()
    found = estimate(steps, machine)
    numbers = ("tokens", "time", "GPU, GiB", "memory, GiB", "disk, GB")
    table = Table("room", *(Column(name, justify="right") for name in numbers), box=None, pad_edge=False)
    for line in lines(found):
        table.add_row(*line)
    widened(console, 100).print(table)
    for remark in remarks(found, machine):
        console.print(f"  · {remark}", style="dim", markup=False, soft_wrap=True)
    console.print(summed(found, machine), markup=False, soft_wrap=True)
