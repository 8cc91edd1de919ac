"""The documentation and its parts: fenced blocks, words in backticks, command lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

HISTORY = ("CHANGELOG.md", "docs/log.md")
"""May name what no longer exists: only their links are tested."""

DOCUMENTS = tuple(
    name
    for name in ("README.md", "CONTRIBUTING.md", *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md")))
    if name not in HISTORY
)

_FENCE = re.compile(r"^```(\w*)(?: title=\"([^\"]*)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block."""

    language: str
    title: str
    """A file name, or why no test can run the commands."""
    body: str

    @property
    def lines(self) -> list[str]:
        """Command lines, continued lines joined."""
        return [line.strip() for line in self.body.replace("\\\n", " ").splitlines() if line.strip()]


def text(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str, *languages: str) -> list[Block]:
    """Return the blocks of some languages, in order."""
    return [
        block for block in (Block(*groups) for groups in _FENCE.findall(text(document))) if block.language in languages
    ]


def prose(document: str) -> str:
    """Return what is outside fenced blocks."""
    return _FENCE.sub("", text(document))


def spans(document: str) -> list[str]:
    """Return everything in single backticks outside fenced blocks."""
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(document))]


def command_lines(document: str, program: str) -> list[str]:
    """Return command lines of shell blocks and in backticks; of a verb alone, such as `lep push`, its help."""
    lines = [line for block in blocks(document, "sh") for line in block.lines]
    named = [f"{span} --help" if span.count(" ") == 1 and program == "lep" else span for span in spans(document)]
    return [line for line in [*lines, *named] if line.startswith(f"{program} ")]
