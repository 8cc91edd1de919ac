"""Score answers from 1 to 5 by rules about their form.

The score is 5 minus the penalty of each issue that is found, and at least 1. Rules do not see whether an answer is
correct; for that, a language model judges (`lep.sampling.llm_judge`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lep.core.unicode_scripts import count_scripts
from lep.data.language_id import identify_language
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import Failure, Messages

ISSUE_PENALTIES = {"truncated": 2, "script": 2, "language": 2, "repetition": 2, "refusal": 2, "short": 1}
"""Penalty of each issue. With a minimum score of 4, a `short` answer passes if it has no other issue."""

REFUSAL_PATTERNS = (
    "i can't assist",
    "i cannot assist",
    "i can't help",
    "i cannot help",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm unable to",
    "i am unable to",
    "i apologize, but i can",
    r"as an ai\b",
    "as a language model",
    "к сожалению, я не мог",
    "к сожалению, не могу",
    "извините, но я не",
    "извини, но я не",
    "простите, но я не",
    "прошу прощения, но я не",
    "я не могу помочь",
    "я не могу ответить",
    "я не могу выполнить",
    "я не имею возможности",
    "как языковая модель",
    "как искусственный интеллект",
    "я всего лишь языковая модель",
)
"""Regular expressions of refusals, in lower case, matched from the beginning of a word."""

_REFUSAL_SEARCH_CHARACTERS = 160
"""Characters in which a refusal is searched: later, the words can be part of the answer."""

_MIN_ALPHANUMERICS = 10
"""An answer with fewer letters and digits is short."""

_MIN_SAME_SCRIPT_FRACTION = 0.5
"""Fraction of an answer's letters that must be in the prompt's script."""

_MIN_LETTERS_FOR_LANGUAGE = 60
"""Shorter texts are not identified reliably."""

_MAX_REPETITION_FRACTION, _REPETITION_WINDOW = 0.3, 20
"""Limit of `repetition_fraction`, and the characters that it compares at each position."""

_REFUSAL_REGEX = re.compile(rf"\b({'|'.join(REFUSAL_PATTERNS)})")
_CODE_BLOCK = re.compile(r"```.*?(```|$)", re.DOTALL)


@dataclass(frozen=True)
class Score:
    """A judge's opinion of an answer."""

    value: int | None
    """From 1 to 5; None if there is nothing to score, or the judge gave no score."""
    issues: tuple[str, ...] = ()
    """Keys of `ISSUE_PENALTIES`, or `no answer`, `empty` or `no score`."""
    explanation: str = ""
    """Words of the judge, or the reason of a failure."""


def score_by_rules(prompt: Messages, answer: GeneratedText | Failure) -> Score:
    """Score an answer: 5 minus the penalties of its issues, at least 1.

    >>> score_by_rules([{"role": "user", "content": "How are you?"}], GeneratedText("Fine.", tokens=2))
    Score(value=4, issues=('short',), explanation='')

    Args:
        prompt: Its last message is compared with the answer.
        answer: The answer.

    Returns:
        The score, without a value for a failure and for an answer without letters and digits.
    """
    if isinstance(answer, Failure):
        return Score(None, ("no answer",), answer.reason)
    if not _count_alphanumerics(answer.text):
        return Score(None, ("empty",))
    issues = find_issues(prompt[-1]["content"], answer)
    return Score(max(1, 5 - sum(ISSUE_PENALTIES[issue] for issue in issues)), tuple(issues))


def find_issues(question: str, answer: GeneratedText) -> list[str]:
    """Return the issues of an answer, as keys of `ISSUE_PENALTIES`."""
    text = answer.text.strip()
    checks = {
        "truncated": answer.truncated,
        "script": (is_foreign := not _is_same_script(question, text)),
        "language": not is_foreign and not _is_same_language(question, text),
        "repetition": repetition_fraction(text) > _MAX_REPETITION_FRACTION,
        "refusal": is_refusal(text),
        "short": _count_alphanumerics(text) < _MIN_ALPHANUMERICS,
    }
    return [issue for issue, is_present in checks.items() if is_present]


def repetition_fraction(text: str) -> float:
    """Compute the fraction of positions whose next 20 characters occurred before.

    It is near 1 for a text that loops. It needs no words, so it works for every script and for loops of any length.

    >>> repetition_fraction("a" * 21)
    0.5

    Args:
        text: Any text.

    Returns:
        The fraction; 0 for a text of at most 20 characters.
    """
    num_positions = len(text) - _REPETITION_WINDOW + 1
    if num_positions < 2:
        return 0.0
    return 1 - len({text[start : start + _REPETITION_WINDOW] for start in range(num_positions)}) / num_positions


def is_refusal(text: str) -> bool:
    """Return whether a text begins with a refusal; see `REFUSAL_PATTERNS`."""
    beginning = text[:_REFUSAL_SEARCH_CHARACTERS].lower().replace("’", "'")
    return bool(_REFUSAL_REGEX.search(beginning))


def _count_alphanumerics(text: str) -> int:
    return sum(character.isalnum() for character in text)


def _is_same_script(question: str, answer: str) -> bool:
    """Return whether the answer is in the script of most letters of the question, code blocks aside."""
    question_scripts, answer_scripts = (count_scripts(_remove_code_blocks(text)) for text in (question, answer))
    if not question_scripts or not answer_scripts:
        return True
    main_script = question_scripts.most_common(1)[0][0]
    return answer_scripts[main_script] >= _MIN_SAME_SCRIPT_FRACTION * answer_scripts.total()


def _is_same_language(question: str, answer: str) -> bool:
    """Return whether both are in one language; True if one is too short to be identified."""
    texts = [_remove_code_blocks(text) for text in (question, answer)]
    if any(count_scripts(text).total() < _MIN_LETTERS_FOR_LANGUAGE for text in texts):
        return True
    return len({identify_language(text) for text in texts}) == 1


def _remove_code_blocks(text: str) -> str:
    return _CODE_BLOCK.sub("", text)
