"""How many answers are in another script than they should be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lep.core.unicode_scripts import NO_LETTERS, script_of
from lep.evaluation.bootstrap import share

_MIXED = {"Hiragana": "Han", "Katakana": "Han"}
"""Scripts that one text is written in; they count as one."""

Pairs = Iterable[tuple[str, str]]
"""A text in the expected script (the right answer, or the opening that was continued), and what a model wrote."""


def wrong_scripts(answers: Mapping[str, Pairs]) -> dict[str, Any]:
    """What `wrong_script` finds, by where the answers come from; what has none is left out."""
    return {source: found for source, written in answers.items() if (found := wrong_script(written))}


def wrong_script(answers: Pairs) -> dict[str, dict[str, Any]]:
    """By the expected script: the share of answers whose letters are mostly of another one, with Wilson's interval.

    A text without letters expects nothing; an answer without letters is in no wrong script.
    """
    marks: dict[str, list[bool]] = {}
    for text, answer in answers:
        if (script := _script(text)) != NO_LETTERS:
            marks.setdefault(script, []).append(_script(answer) not in (script, NO_LETTERS))
    return {script: share(wrong) for script, wrong in marks.items()}


def pairs(texts: Iterable[str], answers: Iterable[Mapping[str, Any]]) -> Pairs:
    """Texts, and answers as they are kept: the fields of `Answer`."""
    return zip(texts, (answer["text"] for answer in answers), strict=True)


def written_in_benchmark(folder: Path) -> Iterator[tuple[str, str]]:
    """The right answers and those of one model, of the tasks in which it writes; see `darumeru.runner`."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for record in map(json.loads, lines):
                if "answer" in record:
                    yield str(record["gold"]), record["answer"]


def _script(text: str) -> str:
    script = script_of(text.encode())
    return _MIXED.get(script, script)
