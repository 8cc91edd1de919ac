# PYTHON_ARGCOMPLETE_OK
"""The command `lep VERB [recipe.yaml] [key=value …]`. Only modules of `lep.cli` print."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from io import StringIO
from itertools import groupby
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import argcomplete
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lep.cli import model_commands
from lep.cli.completion import complete
from lep.cli.console import ProgressLog, show_progress
from lep.cli.summaries import print_estimates, print_stage_summary, print_training_comparison
from lep.config.help import describe_settings
from lep.distributed import abort, delay_worker_errors, get_rank, is_main_process, shutdown
from lep.errors import LepError, UsageError
from lep.extras import require_extra
from lep.registry import STAGES

if TYPE_CHECKING:
    from lep.pipeline import PipelineStep

_RANGE_FLAGS = {"--from": "the first stage to run", "--to": "the last stage to run"}
_EXPLAIN_WIDTH = 120
"""Columns of `lep explain` at most."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: The words after `lep`; None: those of the process.

    Returns:
        The exit code: 0 done, 1 an error that the message explains, 2 wrong usage, 130 interrupted.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ["TQDM_DISABLE"] = "1"  # read when a library is imported; lep shows its own progress
    errors = Console(stderr=True, highlight=False)
    try:
        with delay_worker_errors():
            options = _parse_arguments(arguments)
            online = getattr(options, "online", False) or getattr(options, "download_data", None)
            os.environ.setdefault("HF_HUB_OFFLINE", "0" if online else "1")
            code = options.handler(options, Console(highlight=False, quiet=not is_main_process()))
        shutdown()
        return code
    except LepError as error:
        process = "" if is_main_process() else f"process {get_rank()}: "
        errors.print(f"lep: {process}{error}", markup=False, soft_wrap=True)
        return abort(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        if is_main_process():
            errors.print("lep: interrupted; run the same command again to resume")
        return abort(130)


def _parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Parse in every process; only the main one prints help and errors."""
    if is_main_process():
        return _parse_with_overrides(_build_parser(), arguments)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return _parse_with_overrides(_build_parser(), arguments)


def _parse_with_overrides(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Accept flags between `key=value` words, which argparse alone does not."""
    argcomplete.autocomplete(parser, default_completer=complete)  # pyright: ignore[reportArgumentType]
    options, rest = parser.parse_known_args(arguments)
    overrides: list[str] | None = getattr(options, "overrides", None)
    if overrides is None or any(word.startswith("-") or "=" not in word for word in rest):
        parser.parse_args(arguments)  # prints what is wrong
    else:
        overrides += rest
    return options


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lep", description="Learned Embedding Propagation: give an open model a vocabulary made for your language."
    )
    parser.add_argument("--version", action="version", version=f"lep {version('lep')}")
    subparsers = parser.add_subparsers(metavar="VERB", required=True)
    add_command = partial(_add_command, subparsers)
    _add_recipe_commands(add_command)
    for stage in STAGES.values():
        command = add_command(stage.name, _run_stage, (stage.settings.__doc__ or "").strip())
        command.set_defaults(stage=stage.name)
        command.add_argument(
            "overrides", nargs="*", metavar="[recipe.yaml] key=value", help=f"see `lep explain {stage.name}`"
        )
        _add_run_options(command)
        if stage.name == "evaluate":
            text = "only download the benchmark's data into this folder, for benchmark.data on a machine without a hub"
            command.add_argument("--download-data", type=Path, metavar="DIR", help=text)
    explain = add_command("explain", _explain_settings, "describe every setting: name, type, default, one sentence")
    explain.add_argument("stage", nargs="?", choices=STAGES)
    _add_folder_commands(add_command)
    model_commands.add_model_commands(add_command)
    return parser


def _add_recipe_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    run = add_command("run", _run_recipe, "run a recipe: every stage whose artifact does not exist yet")
    run.add_argument("recipe", type=Path)
    run.add_argument("overrides", nargs="*", default=[], metavar="stage.key=value")
    for flag, text in _RANGE_FLAGS.items():
        run.add_argument(flag, dest=flag.strip("-") + "_", metavar="STAGE", help=text)
    _add_run_options(run)
    text = "validate a recipe, look for its inputs and estimate what it takes, without doing any work"
    check = add_command("check", _check_recipe, text)
    check.add_argument("recipe", type=Path)
    check.add_argument("overrides", nargs="*", default=[], metavar="stage.key=value")
    check.add_argument("--on", metavar="MACHINE", help="estimate for another machine than this one: H100, 8xH100, …")


def _add_folder_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    text = "describe a model, tokenizer or artifact, and report whether it is healthy"
    add_command("inspect", _inspect_folder, text).add_argument("folder", type=Path)
    text = "write a model's card, README.md, if there is none, and add the results of an evaluation"
    card = add_command("card", _write_card, text)
    card.add_argument("model", type=Path, metavar="MODEL", help="folder of a model that lep made")
    card.add_argument("evaluation", type=Path, metavar="EVALUATION", nargs="?", help="an evaluation that measured it")
    text = "compare two tokenizers: their vocabularies, and how they tokenize texts"
    compare = add_command("compare", _compare_tokenizers, text)
    compare.add_argument("a", type=Path, metavar="A", help="a tokenizer: a folder or a file")
    compare.add_argument("b", type=Path, metavar="B", help="another tokenizer")
    compare.add_argument("texts", type=Path, nargs="?", help="a corpus, a file of documents, or a folder of such files")
    compare.add_argument("--json", action="store_true", help="print the numbers as one JSON object")


def _add_command(subparsers: Any, name: str, handler: Callable[..., int], help_text: str) -> argparse.ArgumentParser:
    command = subparsers.add_parser(name, help=help_text, description=help_text, allow_abbrev=False)
    command.set_defaults(handler=handler)
    return command


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument("--replace", action="store_true", help="replace artifacts that were made with other settings")


def _run_recipe(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    steps = pipeline.load_recipe(options.recipe, options.overrides, last_stage=options.to_)
    return _run_steps(pipeline.select_steps(steps, first_stage=options.from_, last_stage=options.to_), options, console)


def _run_stage(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    stage, words = options.stage, options.overrides
    if getattr(options, "download_data", None):
        return _download_benchmark_data(options.download_data, words, console)
    if words and words[0].endswith((".yaml", ".yml")):
        overrides = [word if word.startswith("out=") else f"{stage}.{word}" for word in words[1:]]
        steps = pipeline.load_recipe(Path(words[0]), overrides, last_stage=stage)
        return _run_steps(pipeline.select_steps(steps, first_stage=stage, last_stage=stage), options, console)
    return _run_steps(pipeline.build_stage_steps(stage, words), options, console)


def _run_steps(steps: Sequence[PipelineStep], options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline
    from lep.training.library_logging import silence_libraries

    if options.dry_run:
        return _print_plan(steps, console)
    silence_libraries()
    if is_main_process():
        show_progress(console)

    def print_step_start(step: PipelineStep) -> None:
        console.print(f"[bold]{step.name}[/bold] → {step.out}")

    def print_step_end(step: PipelineStep, was_run: bool) -> None:
        print_stage_summary(step, was_run, console)

    pipeline.run_steps(steps, replace=options.replace, on_start=print_step_start, on_end=print_step_end)
    pretraining_steps = [step for step in steps if step.stage.name == "pretrain"]
    if len(pretraining_steps) > 1 and is_main_process():
        print_training_comparison(pretraining_steps, console)
    return 0


def _download_benchmark_data(folder: Path, assignments: Sequence[str], console: Console) -> int:
    from lep.evaluation.darumeru.datasets import download_datasets
    from lep.training.library_logging import silence_libraries

    if assignments:
        raise UsageError(
            f"--download-data downloads the whole benchmark and takes no settings; found {' '.join(assignments)}"
        )
    silence_libraries()
    show_progress(console)
    download_datasets(folder)
    console.print(f"{folder}: the data sets of Darumeru; use benchmark.data={folder}", markup=False, soft_wrap=True)
    return 0


def _print_plan(steps: Sequence[PipelineStep], console: Console) -> int:
    from lep import pipeline

    for problem in (problems := pipeline.check_steps(steps)):
        console.print(problem, markup=False)
    for step in steps:
        console.print(f"{step.name} → {step.out} ({pipeline.describe_status(step)})", markup=False, soft_wrap=True)
        for name, path in step.plan.inputs.items():
            console.print(f"  {name}: {path}", style="dim", markup=False, soft_wrap=True)
        if step.stage.name == "propagate":
            from lep.estimation.report import estimate_propagation  # imports torch, which other steps do not need here

            if estimate := estimate_propagation(step):
                console.print(f"  {estimate}", markup=False, soft_wrap=True)
    return 2 if problems else 0


def _check_recipe(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    steps = pipeline.load_recipe(options.recipe, options.overrides)
    problems = pipeline.check_steps(steps)
    print_estimates(steps, console, machine_name=options.on)
    if problems:
        raise UsageError("\n  ".join([f"{options.recipe}:", *problems]))
    console.print(f"{options.recipe}: {len(steps)} steps; every input exists or is made by an earlier step")
    return 0


def _explain_settings(options: argparse.Namespace, console: Console) -> int:
    width = min(console.width, _EXPLAIN_WIDTH) if console.is_terminal else _EXPLAIN_WIDTH
    for stage in [STAGES[options.stage]] if options.stage else STAGES.values():
        console.print(Text.assemble((stage.name, "bold"), f": {stage.settings.__doc__}\n"), soft_wrap=True)
        for setting in describe_settings(stage.settings):
            default = setting.default if setting.default == "required" else f"default {setting.default}"
            console.print(Text.assemble("  ", (setting.name, "bold"), f"  {setting.type}, {default}"), soft_wrap=True)
            indent = 6 * " "
            console.print(
                fill(setting.description, width, initial_indent=indent, subsequent_indent=indent), markup=False
            )
        console.print()
    return 0


def _inspect_folder(options: argparse.Namespace, console: Console) -> int:
    from lep.inspection.inspect import inspect
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    report = inspect(options.folder)
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for group, facts in groupby(report.facts, key=lambda fact: fact.group):
        table.add_row(Text(group, style="bold"))
        for fact in facts:
            table.add_row(f"  {fact.name}", Text(fact.value))
    console.print(table)
    for kind, style, messages in (("note", "yellow", report.remarks), ("wrong", "bold red", report.problems)):
        for message in messages:
            console.print(Text.assemble((kind, style), f": {message}"), soft_wrap=True)
    return 1 if report.problems else 0


def _write_card(options: argparse.Namespace, console: Console) -> int:
    from lep.io.artifact import read_manifest
    from lep.io.model_card import MODEL_CARD_FILE
    from lep.io.model_folder import nested_model_hint
    from lep.progress import set_listener

    require_extra("report", required_by="card")
    from lep.reporting.card.write import add_evaluation, write_card

    set_listener(ProgressLog(console))
    file = options.model / MODEL_CARD_FILE
    if not (options.model / "config.json").is_file():
        raise UsageError(
            f"{options.model}: not a model folder; a card describes a model{nested_model_hint(options.model)}"
        )
    if not file.is_file():
        write_card(options.model, read_manifest(options.model))
    if options.evaluation:
        add_evaluation(options.model, options.evaluation)
    console.print(str(file), markup=False, soft_wrap=True)
    return 0


def _compare_tokenizers(options: argparse.Namespace, console: Console) -> int:
    from lep.tokenization.comparison import compare_tokenizers, tabulate_comparison

    comparison = compare_tokenizers(options.a, options.b, texts=options.texts)
    if options.json:
        console.print_json(data=asdict(comparison))
        return 0
    console.print(f"A: {comparison.a.path}\nB: {comparison.b.path}", markup=False, soft_wrap=True)
    table = Table("")
    for heading in ("A", "B", "B over A"):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for row in tabulate_comparison(comparison):
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(Text(group, style="bold"))
        table.add_row(f"  {row.metric}", *map(_format_number, (row.a, row.b, row.ratio)))
    console.print(table)
    for language, sample in comparison.samples.items():
        console.print(f"{language}: {sample}", style="dim", markup=False, soft_wrap=True)
    return 0


def _format_number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
