"""For `make docs`: add the table of settings below the section of each stage, made from `lep.config`."""

from __future__ import annotations

import re
from html import escape
from typing import Any

from lep.config.help import describe_settings
from lep.registry import STAGES


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Hook of mkdocs: called with every page before it is rendered."""
    if page.file.src_uri != "pipeline.md":
        return markdown
    sections = re.split(r"^(?=## )", markdown, flags=re.MULTILINE)
    return "".join(_add_settings(section) for section in sections)


def _add_settings(section: str) -> str:
    name = section.partition("\n")[0].removeprefix("## ")
    if name not in STAGES:
        return section
    rows = "".join(
        f"<tr><td><code>{escape(setting.name)}</code></td><td><code>{escape(setting.type)}</code></td>"
        f"<td><code>{escape(setting.default)}</code></td><td>{_format_code(setting.description)}</td></tr>\n"
        for setting in describe_settings(STAGES[name].settings)
    )
    head = "<tr><th>setting</th><th>type</th><th>default</th><th>description</th></tr>\n"
    return f"{section}\n<details><summary>Settings of {name}</summary>\n<table>\n{head}{rows}</table>\n</details>\n\n"


def _format_code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
