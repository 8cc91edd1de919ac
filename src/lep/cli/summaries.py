"""What the command line prints about a finished stage, from its typed result, and about the estimates of a recipe."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lep.cli.console import widen_console
from lep.config import AdviseSettings
from lep.errors import UsageError
from lep.extras import require_extra
from lep.registry import parse_stage_result
from lep.results.stages import (
    AdviceResult,
    EvaluationResult,
    PretrainingResult,
    PropagationResult,
    ReportResult,
    RetokenizationResult,
    StageResult,
)

if TYPE_CHECKING:
    from lep.pipeline import PipelineStep
    from lep.reporting.tables.cells import ComparisonTable


def print_stage_summary(step: PipelineStep, was_run: bool, console: Console) -> None:
    """Print what a finished step took and what came of it.

    Args:
        step: The finished step.
        was_run: Whether it was run now, or its artifact was there already.
        console: Where to print.
    """
    from lep.io.artifact import read_manifest

    manifest = read_manifest(step.out)
    time_and_memory = f"done in {manifest.seconds:.0f} s, {manifest.peak_memory_bytes / 2**30:.1f} GiB"
    console.print(f"  {time_and_memory if was_run else 'was done'}", style="dim")
    if step.stage.summarize:
        step.stage.load(step.stage.summarize)(_read_result(step), step, console)


def print_vocabulary(result: RetokenizationResult, step: PipelineStep, console: Console) -> None:
    """Print the sizes of a new vocabulary and its characters per token.

    Args:
        result: Result of `retokenize`.
        step: The finished step.
        console: Where to print.
    """
    console.print(
        f"  {result.vocab_size:,} tokens: {result.kept_tokens:,} of the base's {result.old_tokens:,}, "
        f"{result.new_tokens:,} new; all properties of {result.kind} were checked",
        soft_wrap=True,
    )
    for language, change in result.characters_per_token.items():
        comparison = f"{change.after:.2f} characters per token, before {change.before:.2f}"
        console.print(f"  {language}: {comparison}", markup=False)


def print_advice(result: AdviceResult, step: PipelineStep, console: Console) -> None:
    """Print the table of vocabulary sizes, the recommendation and the command that follows it.

    Args:
        result: Result of `advise`.
        step: The finished step.
        console: Where to print.
    """
    from lep.reporting.tables.vocabulary_sizing import build_size_tables

    wide = widen_console(console, 120)
    for sizes in build_size_tables(result):
        table = Table(title=sizes.title, title_justify="left", title_style="bold")
        for heading in sizes.headings:
            table.add_column(heading, justify="right")
        for i, row in enumerate(sizes.rows):
            table.add_row(*row, style="bold" if i == sizes.recommended_row else None)
        wide.print(table)
    for sentence in result.assumptions:
        console.print(f"· {sentence}", style="dim", markup=False, soft_wrap=True)
    console.print(Text(" ".join(result.explanation), style="bold"), soft_wrap=True)
    console.print(f"  see {step.out / 'advice.svg'}", markup=False, soft_wrap=True)
    if new_tokens := result.recommendation.new_tokens:
        assert isinstance(step.settings, AdviseSettings)
        command = _format_retokenize_command(step.settings, new_tokens)
        console.print(f"  then {command}", markup=False, soft_wrap=True)


def print_pretraining(result: PretrainingResult, step: PipelineStep, console: Console) -> None:
    """Print the best validation point of a training, its speed, and how often new tokens occurred.

    Args:
        result: Result of `pretrain`.
        step: The finished step.
        console: Where to print.
    """
    bits = ", ".join(f"{language} {value:.4f}" for language, value in result.best_point.bits_per_byte.items())
    console.print(f"  step {result.best_step} is the best: held-out bits per byte {bits}", markup=False, soft_wrap=True)
    utilization = f", {result.mfu:.0%} of the peak FLOPs" if result.mfu else ""
    occurrences = ""
    if counts := result.new_tokens:
        occurrences = (
            f"; of {counts.known:,} new tokens, {counts.never_seen:,} never occur in the samples and "
            f"{counts.seen_less_than_100_times:,} fewer than 100 times"
        )
    console.print(f"  {result.tokens_per_second:,.0f} tokens/s{utilization}{occurrences}", markup=False, soft_wrap=True)


def print_propagation(result: PropagationResult, step: PipelineStep, console: Console) -> None:
    """Print how well each projection fits.

    Args:
        result: Result of `propagate`.
        step: The finished step.
        console: Where to print.
    """
    table = Table("", "method", "residual", "on held-out rows", "rank", "condition")
    for name, fit in result.fits.items():
        values = (fit.residual, fit.residual_heldout, fit.rank, fit.condition)
        table.add_row(name, fit.method, *map(_format_or_dash, values))
        for method, error in fit.residual_heldout_by_method.items():
            table.add_row("", f"  {method}", "", _format_or_dash(error), style="dim")
    console.print(table)


def print_evaluation(result: EvaluationResult, step: PipelineStep, console: Console) -> None:
    """Print the tables of an evaluation.

    Args:
        result: Result of `evaluate`.
        step: The finished step.
        console: Where to print.
    """
    for print_part in (_print_main_table, _print_benchmark, _print_efficiency, _print_side_effects):
        print_part(result, console)


def print_report(result: ReportResult, step: PipelineStep, console: Console) -> None:
    """Print our scores next to the paper's, what differs in how they were measured, and where the page is.

    Args:
        result: Result of `report`.
        step: The finished step.
        console: Where to print.
    """
    from lep.reporting.formatting import format_score, format_signed
    from lep.reporting.tables.paper_comparison import format_pair_score

    for comparison in result.paper_comparisons:
        console.print(Text(f"{comparison.table}, {comparison.row}", style="bold"))
        table = Table()
        for heading in ("", *(pair.column for pair in comparison.pairs)):
            table.add_column(heading, justify="right" if heading else "left")
        table.add_row("the paper", *(format_score(pair.paper_score) for pair in comparison.pairs))
        table.add_row(comparison.model, *map(format_pair_score, comparison.pairs))
        table.add_row("difference", *(format_signed(pair.difference) for pair in comparison.pairs))
        widen_console(console, 120).print(table)
        _print_remarks(comparison.remarks, console)
    console.print(f"  open {step.out / 'index.html'}", markup=False, soft_wrap=True)


def print_training_comparison(steps: Sequence[PipelineStep], console: Console) -> None:
    """Print the results of several `pretrain` steps side by side, the best first."""
    trained = [(step, result) for step in steps if isinstance(result := _read_result(step), PretrainingResult)]
    trained.sort(key=lambda pair: pair[1].best_point.score)
    languages = list(trained[0][1].best_point.bits_per_byte)
    table = Table("pretrain", "best step", *(f"bits per byte, {language}" for language in languages), "tokens/s")
    for i, (step, result) in enumerate(trained):
        bits = [f"{result.best_point.bits_per_byte[language]:.4f}" for language in languages]
        speed = f"{result.tokens_per_second:,.0f}"
        table.add_row(step.name, f"{result.best_step:,}", *bits, speed, style="bold" if i == 0 else None)
    widen_console(console, 120).print(table)


def print_estimates(steps: Sequence[PipelineStep], console: Console, *, machine_name: str | None) -> None:
    """Print what each step will take, what was assumed, and what all of them take together.

    Args:
        steps: The steps of a recipe.
        console: Where to print.
        machine_name: The machine to estimate for; `None`: this one.
    """
    from lep.estimation.hardware import detect_machine, parse_machine

    try:
        require_extra("train", required_by="an estimate")
    except UsageError as error:
        _print_remarks([str(error)], console)
        return
    from lep.estimation.report import estimate, format_rows, format_total, list_remarks

    machine = parse_machine(machine_name) if machine_name else detect_machine()
    estimates = estimate(steps, machine)
    headings = ("tokens", "time", "GPU, GiB", "memory, GiB", "disk, GB")
    table = Table("stage", *(Column(name, justify="right") for name in headings), box=None, pad_edge=False)
    for row in format_rows(estimates):
        table.add_row(*row)
    widen_console(console, 100).print(table)
    _print_remarks(list_remarks(estimates, machine), console)
    console.print(format_total(estimates, machine), markup=False, soft_wrap=True)


def _read_result(step: PipelineStep) -> StageResult | None:
    from lep.io.artifact import MANIFEST, read_manifest

    return parse_stage_result(read_manifest(step.out).result, stage=step.stage.name, path=step.out / MANIFEST)


def _format_retokenize_command(settings: AdviseSettings, new_tokens: int) -> str:
    """Return the command that makes the recommended vocabulary."""
    mixture = ", ".join(f"{language}: {share:g}" for language, share in (settings.mixture or {}).items())
    values = {"base": settings.base, "corpus": settings.corpus, "kind": settings.kind}
    values |= {"mixture": f"{{{mixture}}}"} if mixture else {}
    values |= {"kept_tokens": settings.kept_tokens} if settings.kept_tokens else {}
    assignments = [f"{key}={value}" for key, value in (values | {"new_tokens": new_tokens, "out": "…"}).items()]
    return shlex.join(["lep", "retokenize", *assignments])


def _format_or_dash(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}"


def _print_main_table(evaluation: EvaluationResult, console: Console) -> None:
    from lep.reporting.tables.main import build_main_table

    main_table = build_main_table(evaluation)
    if main_table.columns:
        table = Table("model", *map(str, main_table.columns))
        for row in main_table.rows:
            table.add_row(row.model, *map(str, row.cells))
        widen_console(console, 140).print(table)


def _print_benchmark(evaluation: EvaluationResult, console: Console) -> None:
    """Print scores by group, their differences to the reference, and what they leave out."""
    from lep.reporting.tables.benchmark import build_benchmark_tables

    if evaluation.benchmark:
        tables = build_benchmark_tables(evaluation.benchmark)
        _print_comparison_table(tables.group_table, "Darumeru: score, 95 % interval", tables.reference, console)
        _print_remarks(tables.remarks, console)


def _print_efficiency(evaluation: EvaluationResult, console: Console) -> None:
    """Print speed and memory on the text that speed was measured with."""
    from lep.reporting.tables.efficiency import build_text_tables, find_reference

    if efficiency := evaluation.efficiency:
        table = build_text_tables(efficiency)[0]
        _print_comparison_table(table, f"Speed and memory, {table.title}", find_reference(efficiency), console)


def _print_side_effects(evaluation: EvaluationResult, console: Console) -> None:
    from lep.reporting.tables.side_effects import build_side_effect_tables, find_reference

    if effects := evaluation.side_effects:
        for table in build_side_effect_tables(effects):
            _print_comparison_table(table, table.title, find_reference(effects), console)


def _print_comparison_table(comparison: ComparisonTable, title: str, reference: str, console: Console) -> None:
    has_changes = any(cell.change for row in comparison.rows for cell in row.cells)
    console.print(Text(f"{title}, and against {reference}" if has_changes else title, style="bold"))
    table = Table("model", *comparison.columns)
    for row in comparison.rows:
        table.add_row(row.name, *map(str, row.cells))
    widen_console(console, 140).print(table)


def _print_remarks(remarks: Iterable[str], console: Console) -> None:
    for remark in remarks:
        console.print(f"  · {remark}", style="dim", markup=False, soft_wrap=True)
