"""Which texts of an evaluation stand in training data, by runs of thirteen words.

A text of fewer words counts as found where it is a whole message; a longer one where half of its runs of thirteen words
stand in one conversation: a run or two can be a saying. Runs that several texts of the evaluation share, as its
instructions, do not count, nor do case, punctuation and spaces.

Source: runs of 13 words, Brown et al. 2020 (arXiv 2005.14165), appendix C.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lep.data.conversations import Conversation

RUN = 13
"""Words in a run."""
ENOUGH = 0.5
"""Share of a text's runs that must stand in one conversation."""

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Leak:
    """A text of an evaluation that stands in training data."""

    evaluation: str
    number: int
    """Which of the evaluation's texts, the first being 1."""
    place: str
    """Of the conversation."""
    share: float
    """Of the text's runs, those that stand there."""


def find_leaks(conversations: Sequence[Conversation], evaluations: Mapping[str, Sequence[str]]) -> list[Leak]:
    """The texts of evaluations that conversations hold; a text is told once a conversation.

    Args:
        conversations: to train on.
        evaluations: texts by the evaluation's name.
    """
    sizes: dict[tuple[str, int], int] = {}
    holders: defaultdict[int, list[tuple[str, int]]] = defaultdict(list)
    for name, texts in evaluations.items():
        of_each = [set(_runs(text)) for text in texts]
        among = Counter(run for runs in of_each for run in runs)
        for number, runs in enumerate(of_each, start=1):
            own = {run for run in runs if among[run] == 1} or runs
            sizes[name, number] = len(own)
            for run in own:
                holders[run].append((name, number))
    leaks: list[Leak] = []
    for conversation in conversations:
        there = {run for message in conversation.messages for run in _runs(message.content)}
        found = Counter(text for run in there & holders.keys() for text in holders[run])
        shares = {text: count / sizes[text] for text, count in found.items()}
        leaks += [Leak(*text, conversation.place, share) for text, share in shares.items() if share >= ENOUGH]
    return leaks


def _runs(text: str) -> Iterator[int]:
    """A number for each run of words; a short text is one run of its own."""
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not words:
        return
    if len(words) < RUN:
        yield hash(("whole", *words))
    for start in range(len(words) - RUN + 1):
        yield hash(tuple(words[start : start + RUN]))
