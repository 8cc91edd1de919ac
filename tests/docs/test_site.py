"""The documentation as a site: every link resolves, each stage has its settings, and nothing is fetched."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lep.config.help import describe_settings
from lep.registry import STAGES

from .documents import DOCUMENTS, ROOT, prose


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return out


def test_every_document_is_a_page(site: Path) -> None:
    pages = {path.name for path in site.glob("*.html")} - {"404.html"}
    assert pages == {f"{Path(name).stem}.html" for name in (*DOCUMENTS, "docs/log.md") if name.startswith("docs/")}


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name.startswith("docs/")])
def test_lists_are_lists(site: Path, document: str) -> None:
    page = (site / f"{Path(document).stem}.html").read_text(encoding="utf-8")
    article = page.partition("<article")[2].partition("</article>")[0]
    assert article.count("<li>") == len(re.findall(r"^ *(?:-|\d+\.) ", prose(document), re.MULTILINE))


def test_each_stage_has_its_settings(site: Path) -> None:
    page = (site / "pipeline.html").read_text(encoding="utf-8")
    for name, stage in STAGES.items():
        section = page.partition(f"<summary>Settings of {name}</summary>")[2].partition("</details>")[0]
        assert re.findall(r"<tr>\s*<td><code>(.*?)</code>", section) == [
            setting.name for setting in describe_settings(stage.settings)
        ]


def test_nothing_is_fetched(site: Path) -> None:
    for page in site.rglob("*.html"):
        tags = re.findall(r"<(?:link|script|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|href)=\"?(?:https?:)?//", tag)], page.name
    assert not [sheet for sheet in site.rglob("*.css") if re.search(r"url\(['\"]?(?:https?:)?//", sheet.read_text())]
