"""The commands of the documents run, in their order, on tiny models; a block that cannot run says what it needs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lep.cli.main import main
from lep.config import ROOMS
from lep.progress import listen

from .conftest import SIZES
from .documents import DOCUMENTS, Block, blocks


def runs(block: Block) -> bool:
    """Whether a block is to be run: its title does not say what it would need (`needs a GPU`), or `takes minutes`."""
    return not (block.title.startswith("needs ") or block.title == "takes minutes")


RUN = {document: [block for block in blocks(document, "sh") if runs(block)] for document in DOCUMENTS}


@pytest.mark.parametrize("document", [document for document, found in RUN.items() if found])
def test_commands_run(document: str, desk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(desk(document))
    monkeypatch.setenv("COLUMNS", "200")
    for line in (line for block in RUN[document] for line in block.lines):
        words = shlex.split(line, comments=True)
        if words:
            assert words[0] in ("lep", "eval"), (
                f"{document}: no test runs {line!r}: say in its block's title what it needs"
            )
            assert (code(words[1:]) if words[0] == "lep" else shell(line)) == 0, (
                f"{document}: {line}\n{capsys.readouterr()}"
            )


def shell(line: str) -> int:
    """The exit code of a line that bash runs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(["bash", "-ec", line], env=os.environ | {"PATH": path}).returncode


def code(words: list[str]) -> int | str | None:
    """The exit code of the command, with sizes that fit."""
    room = f"{words[0]}." if words[0] in ROOMS and not words[1].endswith(".yaml") else ""
    try:
        return main([smaller(word, room=room) for word in words])
    except SystemExit as stopped:  # --help
        return stopped.code
    finally:
        listen(None)


def smaller(word: str, *, room: str) -> str:
    key, equals, _ = word.partition("=")
    return f"{key}={SIZES[room + key]}" if equals and room + key in SIZES else word
