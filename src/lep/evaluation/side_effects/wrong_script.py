"""Fraction of answers that are written in another script than expected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from lep.core.unicode_scripts import NO_LETTERS, detect_script
from lep.evaluation.bootstrap import estimate_fraction
from lep.evaluation.darumeru.document_records import read_document_records
from lep.results.evaluation import GeneratedText
from lep.results.statistics import FractionEstimate

_SCRIPT_ALIASES = {"Hiragana": "Han", "Katakana": "Han"}
"""Scripts that are mixed in one text count as one."""

FractionByScript = dict[str, FractionEstimate]
"""By the script that was expected."""

TextAnswerPairs = Iterable[tuple[str, str]]
"""Pairs of a text in the expected script (the right answer, or the prompt) and a model's answer."""


def compute_wrong_script_by_source(answers: Mapping[str, TextAnswerPairs]) -> dict[str, FractionByScript]:
    """Apply `compute_wrong_script` to the answers of each source, and leave out sources without any."""
    return {source: scripts for source, pairs in answers.items() if (scripts := compute_wrong_script(pairs))}


def compute_wrong_script(answers: TextAnswerPairs) -> FractionByScript:
    """Compute the fraction of answers whose letters are mostly of another script, by expected script.

    A text without letters has no expected script. An answer without letters is not in a wrong script.

    Args:
        answers: Texts in the expected script, and answers.

    Returns:
        The fraction by script, with Wilson's interval.

    Example:
        >>> compute_wrong_script([("кот", "cat"), ("кот", "кошка")])["Cyrillic"].score
        0.5
    """
    outcomes: dict[str, list[bool]] = {}
    for text, answer in answers:
        if (script := _detect_script(text)) != NO_LETTERS:
            outcomes.setdefault(script, []).append(_detect_script(answer) not in (script, NO_LETTERS))
    return {script: estimate_fraction(wrong) for script, wrong in outcomes.items()}


def pair_with_answers(texts: Iterable[str], answers: Iterable[GeneratedText]) -> TextAnswerPairs:
    """Pair each text with the answer at its place."""
    return zip(texts, (answer.text for answer in answers), strict=True)


def read_benchmark_answers(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield the right and the generated answers of one model's benchmark; see `lep.evaluation.darumeru.runner`."""
    for file in sorted(folder.glob("*.jsonl")):
        for record in read_document_records(file):
            if record.answer is not None:
                yield record.gold, record.answer


def _detect_script(text: str) -> str:
    script = detect_script(text.encode())
    return _SCRIPT_ALIASES.get(script, script)
