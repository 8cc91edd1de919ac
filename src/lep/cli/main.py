# PYTHON_ARGCOMPLETE_OK
"""The command: `lep VERB [recipe.yaml] [key=value …]`. It prints; so do `model_commands`, `chatting` and `terminal`."""

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
from typing import Any

import argcomplete
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lep.cli import model_commands
from lep.cli.completion import complete
from lep.cli.console import Lines, compare_trainings, expectations, follow, summary
from lep.config import ROOMS
from lep.config.help import knobs
from lep.distributed import give_up, is_main, leave, main_first, rank
from lep.errors import LepError, UsageError

_FLAGS = {
    "--from": "begin with this room",
    "--to": "end with this room",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code: 0 done, 1 an error of the world, 2 of usage."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ["TQDM_DISABLE"] = "1"  # looked at when a library is loaded; our bars stand in the place of theirs
    errors = Console(stderr=True, highlight=False)
    try:
        with main_first():
            options = _parsed(arguments)
            online = getattr(options, "online", False) or getattr(options, "export_data", None)
            os.environ.setdefault("HF_HUB_OFFLINE", "0" if online else "1")
            code = options.act(options, Console(highlight=False, quiet=not is_main()))
        leave()
        return code
    except LepError as error:
        where = "" if is_main() else f"process {rank()}: "
        errors.print(f"lep: {where}{error}", markup=False, soft_wrap=True)
        return give_up(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        if is_main():
            errors.print("lep: interrupted; the same command goes on where it was")
        return give_up(130)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Help and errors are the main process's to print."""
    if is_main():
        return _options(_parser(), arguments)
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        return _options(_parser(), arguments)


def _options(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Flags may stand anywhere among `key=value`, which argparse alone does not see."""
    argcomplete.autocomplete(parser, default_completer=complete)  # pyright: ignore[reportArgumentType]
    options, rest = parser.parse_known_args(arguments)
    found: list[str] | None = getattr(options, "overrides", getattr(options, "words", None))
    if found is None or any(word.startswith("-") or "=" not in word for word in rest):
        parser.parse_args(arguments)  # says what is wrong
    else:
        found += rest
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lep", description="Learned Embedding Propagation: give an open model a vocabulary made for your language."
    )
    parser.add_argument("--version", action="version", version=f"lep {version('lep')}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    run = _verb(verbs, "run", _run, "walk through a recipe: every room whose artifact is not there yet")
    run.add_argument("recipe", type=Path)
    run.add_argument("overrides", nargs="*", default=[], metavar="room.key=value")
    for flag, words in _FLAGS.items():
        run.add_argument(flag, dest=flag.strip("-") + "_", metavar="ROOM", help=words)
    _how(run)
    for room, settings in ROOMS.items():
        verb = _verb(verbs, room, _room, (settings.__doc__ or "").strip())
        verb.set_defaults(room=room)
        verb.add_argument("words", nargs="*", metavar="[recipe.yaml] key=value", help=f"see `lep explain {room}`")
        _how(verb)
        if room == "evaluate":
            words = "only fetch the benchmark's data from the hub into this folder, for benchmark.data where no hub is"
            verb.add_argument("--export-data", type=Path, metavar="DIR", help=words)
    explain = _verb(verbs, "explain", _explain, "every knob: name, type, default, one sentence")
    explain.add_argument("room", nargs="?", choices=ROOMS)
    check = _verb(verbs, "check", _check, "parse a recipe, look for its inputs, estimate what it takes; do no work")
    check.add_argument("recipe", type=Path)
    check.add_argument("overrides", nargs="*", default=[], metavar="room.key=value")
    check.add_argument("--on", metavar="MACHINE", help="estimate for another machine than this one: H100, 8xH100, …")
    inspect = _verb(verbs, "inspect", _inspect, "what a model, tokenizer or artifact is; whether it is healthy")
    inspect.add_argument("folder", type=Path)
    card = _verb(
        verbs, "card", _card, "write a model's card, README.md, where there is none, and an evaluation's numbers on it"
    )
    card.add_argument("model", type=Path, metavar="MODEL", help="folder of a model that lep made")
    card.add_argument("evaluation", type=Path, metavar="EVALUATION", nargs="?", help="an evaluation that measured it")
    compare = _verb(verbs, "compare", _compare, "two tokenizers side by side: vocabularies, and how they write texts")
    compare.add_argument("a", type=Path, metavar="A", help="a tokenizer: a folder or a file")
    compare.add_argument("b", type=Path, metavar="B", help="another one")
    compare.add_argument("texts", type=Path, nargs="?", help="a corpus, a file of documents, or a folder of such files")
    compare.add_argument("--json", action="store_true", help="the numbers as one JSON object")
    model_commands.add(partial(_verb, verbs))
    return parser


def _verb(verbs: Any, name: str, act: Callable[..., int], words: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=words, description=words, allow_abbrev=False)
    verb.set_defaults(act=act)
    return verb


def _how(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--dry-run", action="store_true", help="say what would be done")
    verb.add_argument("--replace", action="store_true", help="replace artifacts that were made with other settings")


def _run(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    steps = pipeline.load_recipe(options.recipe, options.overrides, last=options.to_)
    return _walk(pipeline.between(steps, first=options.from_, last=options.to_), options, console)


def _room(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    words: list[str] = options.words
    if getattr(options, "export_data", None):
        return _export(options.export_data, words, console)
    if words and words[0].endswith((".yaml", ".yml")):
        overrides = [word if word.startswith("out=") else f"{options.room}.{word}" for word in words[1:]]
        steps = pipeline.load_recipe(Path(words[0]), overrides, last=options.room)
        return _walk(pipeline.between(steps, first=options.room, last=options.room), options, console)
    return _walk(pipeline.room_steps(options.room, words), options, console)


def _walk(steps: Sequence[Any], options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline
    from lep.training.library_logging import silence_libraries

    if options.dry_run:
        return _plan(steps, console)
    silence_libraries()
    if is_main():
        follow(console)

    def started(step: pipeline.Step) -> None:
        console.print(f"[bold]{step.address}[/bold] → {step.out}")

    def ended(step: pipeline.Step, did: bool) -> None:
        summary(step, did, console)

    pipeline.run(steps, replace=options.replace, started=started, ended=ended)
    trained = [step for step in steps if step.room == "pretrain"]
    if len(trained) > 1 and is_main():
        compare_trainings(trained, console)
    return 0


def _export(folder: Path, words: Sequence[str], console: Console) -> int:
    from lep.evaluation.darumeru.datasets import export
    from lep.training.library_logging import silence_libraries

    if words:
        raise UsageError(f"--export-data fetches the whole benchmark and takes no settings; found {' '.join(words)}")
    silence_libraries()
    follow(console)
    export(folder)
    console.print(f"{folder}: the data sets of Darumeru; say benchmark.data={folder}", markup=False, soft_wrap=True)
    return 0


def _plan(steps: Sequence[Any], console: Console) -> int:
    from lep import pipeline

    for problem in (problems := pipeline.check(steps)):
        console.print(problem, markup=False)
    for step in steps:
        console.print(f"{step.address} → {step.out} ({pipeline.status(step)})", markup=False, soft_wrap=True)
        for name, path in step.plan.inputs.items():
            console.print(f"  {name}: {path}", style="dim", markup=False, soft_wrap=True)
        if cost := pipeline.cost(step):
            console.print(f"  {cost}", markup=False, soft_wrap=True)
    return 2 if problems else 0


def _check(options: argparse.Namespace, console: Console) -> int:
    from lep import pipeline

    steps = pipeline.load_recipe(options.recipe, options.overrides)
    problems = pipeline.check(steps)
    expectations(steps, console, on=options.on)
    if problems:
        raise UsageError("\n  ".join([f"{options.recipe}:", *problems]))
    console.print(f"{options.recipe}: {len(steps)} steps, all inputs are there or are made on the way")
    return 0


def _explain(options: argparse.Namespace, console: Console) -> int:
    wide, indent = min(console.width, 120) if console.is_terminal else 120, 6 * " "
    for room, settings in ROOMS.items():
        if options.room in (None, room):
            console.print(Text.assemble((room, "bold"), f": {settings.__doc__}\n"), soft_wrap=True)
            for knob in knobs(settings):
                default = knob.default if knob.default == "required" else f"default {knob.default}"
                console.print(Text.assemble("  ", (knob.name, "bold"), f"  {knob.type}, {default}"), soft_wrap=True)
                console.print(fill(knob.words, wide, initial_indent=indent, subsequent_indent=indent), markup=False)
            console.print()
    return 0


def _inspect(options: argparse.Namespace, console: Console) -> int:
    from lep.inspection.inspect import inspect
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    found = inspect(options.folder)
    table = Table("", "", box=None, show_header=False, pad_edge=False)
    for group, facts in groupby(found.facts, key=lambda fact: fact.group):
        table.add_row(Text(group, style="bold"))
        for fact in facts:
            table.add_row(f"  {fact.name}", Text(fact.value))
    console.print(table)
    for kind, style, told in (("note", "yellow", found.remarks), ("wrong", "bold red", found.problems)):
        for words in told:
            console.print(Text.assemble((kind, style), f": {words}"), soft_wrap=True)
    return 1 if found.problems else 0


def _card(options: argparse.Namespace, console: Console) -> int:
    from lep.io.artifact import read_manifest
    from lep.io.model_card import CARD
    from lep.io.model_folder import within
    from lep.progress import listen
    from lep.reporting.card.write import add_numbers, write_card

    listen(Lines(console))
    file = options.model / CARD
    if not (options.model / "config.json").is_file():
        raise UsageError(f"{options.model}: no model is there; a card is a model's{within(options.model)}")
    if not file.is_file():
        write_card(options.model, read_manifest(options.model))
    if options.evaluation:
        add_numbers(options.model, options.evaluation)
    console.print(str(file), markup=False, soft_wrap=True)
    return 0


def _compare(options: argparse.Namespace, console: Console) -> int:
    from lep.tokenization.comparison import compare, rows

    found = compare(options.a, options.b, texts=options.texts)
    if options.json:
        console.print_json(data=asdict(found))
        return 0
    console.print(f"A: {found.a.path}\nB: {found.b.path}", markup=False, soft_wrap=True)
    table = Table("")
    for heading in ("A", "B", "B over A"):
        table.add_column(heading, justify="right", no_wrap=True)
    group = ""
    for row in rows(found):
        if row.group != group:
            group = row.group
            table.add_section()
            table.add_row(Text(group, style="bold"))
        table.add_row(f"  {row.measure}", *map(_number, (row.a, row.b, row.ratio)))
    console.print(table)
    for language, sample in found.texts.items():
        console.print(f"{language}: {sample}", style="dim", markup=False, soft_wrap=True)
    return 0


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


if __name__ == "__main__":
    sys.exit(main())
