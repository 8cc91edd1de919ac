"""The commands of the documentation run, in order, on tiny models; a block that cannot run says what it needs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lep.cli.main import main
from lep.progress import set_listener
from lep.registry import STAGES

from .conftest import SIZES
from .documents import DOCUMENTS, Block, blocks


def is_runnable(block: Block) -> bool:
    """Return whether a block can run here: its title does not say `needs a GPU` or the like, or `takes minutes`."""
    return not (block.title.startswith("needs ") or block.title == "takes minutes")


RUN = {document: [block for block in blocks(document, "sh") if is_runnable(block)] for document in DOCUMENTS}


@pytest.mark.parametrize("document", [document for document, runnable in RUN.items() if runnable])
def test_commands_run(
    document: str, working_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(working_folder(document))
    monkeypatch.setenv("COLUMNS", "200")
    for line in (line for block in RUN[document] for line in block.lines):
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] in ("lep", "eval"), (
                f"{document}: no test runs {line!r}: say in its block's title what it needs"
            )
            assert (run_lep(words[1:]) if words[0] == "lep" else run_in_bash(line)) == 0, (
                f"{document}: {line}\n{capsys.readouterr()}"
            )


def run_in_bash(line: str) -> int:
    """Run a line in bash and return its exit code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(["bash", "-ec", line], env=os.environ | {"PATH": path}).returncode


def run_lep(words: list[str]) -> int | str | None:
    """Run the command with small sizes and return its exit code."""
    prefix = f"{words[0]}." if words[0] in STAGES and not words[1].endswith(".yaml") else ""
    try:
        return main([use_small_size(word, prefix=prefix) for word in words])
    except SystemExit as stopped:  # --help
        return stopped.code
    finally:
        set_listener(None)


def use_small_size(word: str, *, prefix: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}={SIZES[prefix + key]}" if equals and prefix + key in SIZES else word
