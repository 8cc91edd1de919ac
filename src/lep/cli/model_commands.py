"""The verbs of a finished model: `export`, `push`, `chat`. Prints, as `lep.cli.main` does."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from lep.cli.console import follow
from lep.config.export import Export, Quantization
from lep.config.recipe import override
from lep.errors import UsageError


def add(verb: Callable[..., argparse.ArgumentParser]) -> None:
    """Put the verbs on the command line; `verb` makes one of its name, what it does, and its words."""
    export = verb("export", _export, (Export.__doc__ or "").strip())
    export.add_argument("model", metavar="MODEL", help="the model folder")
    taken = f"out=FOLDER, and quantization= one of {', '.join(get_args(Quantization))}"
    export.add_argument("assignments", nargs="*", default=[], metavar="key=value", help=taken)
    push = verb("push", _push, "a model folder → a repository on the hub, once it is healthy and has a card")
    push.add_argument("model", type=Path, metavar="MODEL", help="the model folder")
    push.add_argument("repository", metavar="REPOSITORY", help="owner/name")
    push.set_defaults(online=True)
    push.add_argument("--public", action="store_true", help="make a new repository one that all can see")
    chat = verb("chat", _chat, "talk to a model in the terminal, or to two side by side")
    chat.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    chat.add_argument("other", type=Path, nargs="?", metavar="MODEL2", help="another, to compare it with")
    chat.add_argument("--system", metavar="TEXT", help="a system message for every conversation")
    chat.add_argument(
        "--greedy", action="store_true", help="always the likeliest token; else as the model's makers say"
    )
    chat.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the weights")
    chat.add_argument("--tokens", type=int, default=512, metavar="N", help="of an answer, at the most; default 512")


def _export(options: argparse.Namespace, console: Console) -> int:
    from lep.extras import need

    settings = export_settings(options.model, options.assignments)
    need("export", what="export")
    from lep.gguf.export import export
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    follow(console)
    found = export(settings)
    console.print(f"[bold]{found.file}[/bold]: {found.quantization}, {found.bytes / 2**30:,.2f} GiB", soft_wrap=True)
    console.print(f"{found.file.with_name('Modelfile')}: for Ollama", markup=False, soft_wrap=True)
    for remark in found.remarks:
        console.print(Text.assemble(("note", "yellow"), f": {remark}"), soft_wrap=True)
    for command in found.commands:
        console.print(Text.assemble((f"{command.program}:", "dim"), f"\n  {command.line}"), soft_wrap=True)
    return 0


def export_settings(model: str, assignments: list[str]) -> Export:
    """Settings of `lep export`, with every error at once.

    Raises:
        UsageError: unknown keys, wrong values, no `out=`.
    """
    raw: dict[str, Any] = {}
    for assignment in assignments:
        override(raw, assignment)
    try:
        return Export.model_validate(raw | {"model": model})
    except ValidationError as error:
        told = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        raise UsageError("\n  ".join(["export:", *told, f"knobs: {', '.join(Export.model_fields)}"])) from None


def _push(options: argparse.Namespace, console: Console) -> int:
    from lep.hub import name_remark, push
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    if remark := name_remark(options.model, options.repository):
        console.print(Text.assemble(("note", "yellow"), f": {remark}"), soft_wrap=True)
    address = push(options.model, options.repository, public=options.public)
    console.print(f"{options.model} → {address}", markup=False, soft_wrap=True)
    return 0


def _chat(options: argparse.Namespace, console: Console) -> int:
    from lep.cli.chat import chat, partners
    from lep.training.library_logging import silence_libraries

    if options.tokens < 1:
        raise UsageError(f"--tokens {options.tokens}: expected at least 1")
    silence_libraries()
    folders = [options.model, *([options.other] if options.other else [])]
    models = partners(folders, dtype=options.dtype, system=options.system)
    chat(models, console, longest=options.tokens, greedy=options.greedy)
    return 0
