"""Grades of answers, from 1 to 5, by rules: what a good answer cannot look like.

A grade is 5 less the weight of every fault that is found, and at least 1. A rule sees the form of an answer, never
whether it is right: for that, a model judges (`lep.sampling.llm_judge`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from lep.core.unicode_scripts import NO_LETTERS, script_of
from lep.data.language_id import identify_language
from lep.modeling.generation import Answer
from lep.sampling.backends import Messages, NoAnswer

FAULTS = {"cut": 2, "script": 2, "language": 2, "repetition": 2, "refusal": 2, "short": 1}
"""What each fault takes from the 5. With a threshold of 4, a `short` answer passes where nothing else is wrong."""

REFUSALS = (
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
"""What refusals say in their first words: patterns in small letters, from the beginning of a word on."""

_FIRST_WORDS = 160
"""Characters in which a refusal is looked for: later, the words may be a part of the answer."""

_SHORT = 10
"""Letters and digits of an answer that is not short."""

_SAME_SCRIPT = 0.5
"""Share of an answer's letters that must be of its prompt's script."""

_TELLING = 60
"""Letters from which on the language of a text is told well enough."""

_REPEATED, _WINDOW = 0.3, 20
"""Share of places at which a text says again what it has said; as many characters are looked at in each."""

_REFUSAL = re.compile(rf"\b({'|'.join(REFUSALS)})")
_CODE = re.compile(r"```.*?(```|$)", re.DOTALL)


@dataclass(frozen=True)
class Grade:
    """What a judge says of an answer."""

    value: int | None
    """From 1 to 5; none where there is nothing to grade, or the judge gave no grade."""
    faults: tuple[str, ...] = ()
    """Names of what is wrong: those of `FAULTS`, `no answer`, `empty`, or `no grade`."""
    words: str = ""
    """What a judge, or who did not answer, said."""


def grade_by_rules(prompt: Messages, answer: Answer | NoAnswer) -> Grade:
    """5 less the weights of the faults found, at least 1; none where nothing is said.

    Args:
        prompt: its last message is what the answer's language is compared with.
        answer: the answer.
    """
    if isinstance(answer, NoAnswer):
        return Grade(None, ("no answer",), answer.reason)
    if not _signs(answer.text):
        return Grade(None, ("empty",))
    found = faults(prompt[-1]["content"], answer)
    return Grade(max(1, 5 - sum(FAULTS[fault] for fault in found)), tuple(found))


def faults(question: str, answer: Answer) -> list[str]:
    """The names, of `FAULTS`, of what is wrong with the form of an answer."""
    text = answer.text.strip()
    found = {
        "cut": answer.cut,
        "script": (foreign := not _shares_script(question, text)),
        "language": not foreign and not _shares_language(question, text),
        "repetition": repeated_share(text) > _REPEATED,
        "refusal": refuses(text),
        "short": _signs(text) < _SHORT,
    }
    return [fault for fault, there in found.items() if there]


def repeated_share(text: str) -> float:
    """Share of places in a text at which 20 characters stand that stood before: near 1 in a text that goes in circles.

    Needs no words, so it holds for every script, and for loops of any length.
    """
    places = len(text) - _WINDOW + 1
    if places < 2:
        return 0.0
    return 1 - len({text[at : at + _WINDOW] for at in range(places)}) / places


def refuses(text: str) -> bool:
    """Whether the first words are those of a refusal (`REFUSALS`)."""
    beginning = text[:_FIRST_WORDS].lower().replace("’", "'")
    return bool(_REFUSAL.search(beginning))


def _signs(text: str) -> int:
    """Letters and digits."""
    return sum(character.isalnum() for character in text)


def _shares_script(question: str, answer: str) -> bool:
    """Whether the answer is in the script of most of the question's letters; programs in it do not count."""
    wanted, found = _scripts(question), _scripts(answer)
    if not wanted or not found:
        return True
    main = wanted.most_common(1)[0][0]
    return found[main] >= _SAME_SCRIPT * found.total()


def _shares_language(question: str, answer: str) -> bool:
    """Whether both are in one language, as far as it can be told: not of short texts."""
    texts = [_without_code(text) for text in (question, answer)]
    if any(_scripts(text).total() < _TELLING for text in texts):
        return True
    return len({identify_language(text) for text in texts}) == 1


def _scripts(text: str) -> Counter[str]:
    """Letters by script."""
    found: Counter[str] = Counter()
    for character, count in Counter(_without_code(text)).items():
        script = script_of(character.encode(errors="replace"))
        if script != NO_LETTERS:
            found[script] += count
    return found


def _without_code(text: str) -> str:
    return _CODE.sub("", text)
