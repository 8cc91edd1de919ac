"""For `make docs`: below the section of each room, the table of its knobs, made from `lep.config`."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from lep.config import ROOMS
from lep.config.help import knobs


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Called by mkdocs with every page before it is rendered."""
    if page.file.src_uri != "walk.md":
        return markdown
    sections = re.split(r"^(?=## )", markdown, flags=re.MULTILINE)
    return "".join(_with_knobs(section) for section in sections)


def _with_knobs(section: str) -> str:
    room = section.partition("\n")[0].removeprefix("## ")
    if room not in ROOMS:
        return section
    rows = "".join(
        f"<tr><td><code>{escape(knob.name)}</code></td><td><code>{escape(knob.type)}</code></td>"
        f"<td><code>{escape(knob.default)}</code></td><td>{_inline(knob.words)}</td></tr>\n"
        for knob in knobs(ROOMS[room])
    )
    head = "<tr><th>knob</th><th>type</th><th>default</th><th>what it is</th></tr>\n"
    return f"{section}\n<details><summary>Knobs of {room}</summary>\n<table>\n{head}{rows}</table>\n</details>\n\n"


def _inline(words: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(words))
