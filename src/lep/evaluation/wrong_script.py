"""How many answers are in another script than they should be."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from lep.core.metrics import accuracy
from lep.core.scripts import NO_LETTERS, script_of

_MIXED = {"Hiragana": "Han", "Katakana": "Han"}
"""Scripts that one text is written in; they count as one."""


def wrong_script(answers: Iterable[tuple[str, str]]) -> dict[str, dict[str, Any]]:
    """By the expected script: the share of answers whose letters are mostly of another one, with Wilson's interval.

    Args:
        answers: a text in the expected script (the right answer, or the opening that was continued), and what a model
            wrote. A text without letters expects nothing; an answer without letters is in no wrong script.
    """
    marks: dict[str, list[bool]] = {}
    for text, answer in answers:
        if (script := _script(text)) != NO_LETTERS:
            marks.setdefault(script, []).append(_script(answer) not in (script, NO_LETTERS))
    return {script: _share(wrong) for script, wrong in marks.items()}


def _script(text: str) -> str:
    script = script_of(text.encode())
    return _MIXED.get(script, script)


def _share(marks: list[bool]) -> dict[str, Any]:
    found = accuracy(sum(marks), len(marks))
    return {"score": found.accuracy, "interval": [found.low, found.high], "items": found.items}
