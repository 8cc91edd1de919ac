"""Commands for finished models: `export`, `push` and `chat`. Prints to the terminal."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from lep.cli.console import show_progress
from lep.config.export import ExportSettings, Quantization
from lep.config.recipe import apply_override
from lep.errors import UsageError


def add_model_commands(add_command: Callable[..., argparse.ArgumentParser]) -> None:
    """Add `export`, `push` and `chat` to the command line.

    Args:
        add_command: `add_command(name, run, description)` adds a subcommand and returns its parser.
    """
    export = add_command("export", _export_model, (ExportSettings.__doc__ or "").strip())
    export.add_argument("model", metavar="MODEL", help="the model folder")
    settings_help = f"out=FOLDER, and quantization= one of {', '.join(get_args(Quantization))}"
    export.add_argument("assignments", nargs="*", default=[], metavar="key=value", help=settings_help)
    push = add_command("push", _push_model, "upload a healthy model folder with a model card to the Hugging Face hub")
    push.add_argument("model", type=Path, metavar="MODEL", help="the model folder")
    push.add_argument("repository", metavar="REPOSITORY", help="owner/name")
    push.set_defaults(online=True)
    push.add_argument("--public", action="store_true", help="make a new repository public; default: private")
    chat = add_command("chat", _chat_with_models, "chat with a model in the terminal, or with two side by side")
    chat.add_argument("model", type=Path, metavar="MODEL", help="a model folder")
    chat.add_argument("other", type=Path, nargs="?", metavar="MODEL2", help="another model to compare with")
    chat.add_argument("--system", metavar="TEXT", help="system message of every conversation")
    greedy_help = "greedy decoding; default: the model's generation settings"
    chat.add_argument("--greedy", action="store_true", help=greedy_help)
    chat.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of the weights")
    chat.add_argument("--tokens", type=int, default=512, metavar="N", help="maximum tokens of an answer; default 512")


def _export_model(options: argparse.Namespace, console: Console) -> int:
    from lep.extras import require_extra

    settings = parse_export_settings(options.model, options.assignments)
    require_extra("export", required_by="export")
    from lep.gguf.export import MODELFILE, export
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    show_progress(console)
    result = export(settings)
    size = result.size_bytes / 2**30
    console.print(f"[bold]{result.file}[/bold]: {result.quantization}, {size:,.2f} GiB", soft_wrap=True)
    console.print(f"{result.file.with_name(MODELFILE)}: for Ollama", markup=False, soft_wrap=True)
    for remark in result.remarks:
        _print_note(remark, console)
    for command in result.commands:
        console.print(Text.assemble((f"{command.program}:", "dim"), f"\n  {command.command_line}"), soft_wrap=True)
    return 0


def parse_export_settings(model: str, assignments: list[str]) -> ExportSettings:
    """Parse the settings of `lep export` and report every error at once.

    Args:
        model: The model folder.
        assignments: `key=value` arguments.

    Returns:
        The settings.

    Raises:
        UsageError: A key is unknown, a value is wrong, or `out=` is missing.
    """
    raw: dict[str, Any] = {}
    for assignment in assignments:
        apply_override(raw, assignment)
    try:
        return ExportSettings.model_validate(raw | {"model": model})
    except ValidationError as error:
        errors = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        names = f"settings: {', '.join(ExportSettings.model_fields)}"
        raise UsageError("\n  ".join(["export:", *errors, names])) from None


def _push_model(options: argparse.Namespace, console: Console) -> int:
    from lep.hub import check_license_naming, push_to_hub
    from lep.training.library_logging import silence_libraries

    silence_libraries()
    if remark := check_license_naming(options.model, options.repository):
        _print_note(remark, console)
    url = push_to_hub(options.model, options.repository, public=options.public)
    console.print(f"{options.model} → {url}", markup=False, soft_wrap=True)
    return 0


def _chat_with_models(options: argparse.Namespace, console: Console) -> int:
    from lep.cli.chat import chat, load_chat_sessions
    from lep.training.library_logging import silence_libraries

    if options.tokens < 1:
        raise UsageError(f"--tokens {options.tokens}: expected at least 1")
    silence_libraries()
    folders = [options.model, *([options.other] if options.other else [])]
    sessions = load_chat_sessions(folders, dtype=options.dtype, system_prompt=options.system)
    chat(sessions, console, max_new_tokens=options.tokens, greedy=options.greedy)
    return 0


def _print_note(remark: str, console: Console) -> None:
    console.print(Text.assemble(("note", "yellow"), f": {remark}"), soft_wrap=True)
