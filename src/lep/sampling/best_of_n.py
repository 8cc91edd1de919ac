"""Prompts are answered, the answers judged, and of each prompt's candidates the best is kept, if it is good enough."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from lep.data.conversations import Conversation, Message, turns
from lep.modeling.generation import Answer
from lep.sampling.backends import Answerer, Decoding, NoAnswer, answer_all
from lep.sampling.llm_judge import grade_by_model
from lep.sampling.rule_judge import Grade, grade_by_rules

ANSWERING, JUDGING = "answering.jsonl", "judging.jsonl"
"""What was said so far: files that are of no use when all is done."""


@dataclass(frozen=True)
class Judged:
    """An answer with its grade."""

    prompt: Conversation
    answer: Answer | NoAnswer
    grade: Grade
    kept: bool

    @property
    def said(self) -> tuple[Message, ...]:
        """The answer as a message; nothing where there is none."""
        return (Message("assistant", self.answer.text.strip()),) if isinstance(self.answer, Answer) else ()

    def conversation(self, *, source: str) -> Conversation:
        """Prompt and answer, of which the answer is learnt."""
        given = self.prompt.messages
        return Conversation((*given, *self.said), self.prompt.place, source, first_answer=len(given))

    def row(self) -> dict[str, Any]:
        """For a file: prompt and completion, and what was thought of it."""
        return {
            "prompt": self.prompt.turns,
            "completion": turns(self.said),
            "place": self.prompt.place,
            "grade": self.grade.value,
            "faults": list(self.grade.faults),
            "words": self.grade.words,
            "kept": self.kept,
        }


def answer_and_judge(
    prompts: Sequence[Conversation],
    *,
    teacher: Answerer,
    judge: Answerer | None,
    decoding: Decoding,
    candidates: int,
    threshold: int,
    folder: Path,
) -> list[Judged]:
    """Every answer to every prompt, by prompt, then by candidate; goes on after what `folder` holds.

    Kept is, of a prompt's candidates, the first of those with the highest grade, unless that is below the threshold.

    Args:
        prompts: end on the user.
        teacher: answers them.
        judge: grades the answers; none: rules do.
        decoding: greedy, or sampled where there are several candidates.
        candidates: answers to each prompt.
        threshold: the lowest grade that is kept.
        folder: gets what was said, as it comes.
    """
    asked = [(prompt.turns, prompt.place) for prompt in prompts]
    said = answer_all(
        teacher, asked, decoding=decoding, file=folder / ANSWERING, label="answering", candidates=candidates
    )
    every = [(prompt, answer) for prompt, answers in zip(prompts, said, strict=True) for answer in answers]
    if judge is None:
        grades = [grade_by_rules(prompt.turns, answer) for prompt, answer in every]
    else:
        answered = [(prompt.turns, answer, prompt.place) for prompt, answer in every]
        grades = grade_by_model(judge, answered, file=folder / JUDGING)
    bounds = range(0, len(grades) + 1, candidates)
    kept = {_best(grades, start=start, end=end, threshold=threshold) for start, end in pairwise(bounds)}
    return [
        Judged(prompt, answer, grade, kept=number in kept)
        for number, ((prompt, answer), grade) in enumerate(zip(every, grades, strict=True))
    ]


def dropped(judged: Sequence[Judged], *, threshold: int) -> Counter[str]:
    """How many answers are not kept, by what is wrong with them; one can have several faults."""
    found: Counter[str] = Counter()
    for one in judged:
        if one.kept:
            continue
        if (one.grade.value or 0) >= threshold:
            found["not the best"] += 1
        else:
            found.update(one.grade.faults or (f"grade {one.grade.value}",))
    return found


def _best(grades: Sequence[Grade], *, start: int, end: int, threshold: int) -> int | None:
    """The number of the first of the best grades from `start` to `end`; none when it is below the threshold."""
    values = [grade.value or 0 for grade in grades[start:end]]
    highest = max(values)
    return start + values.index(highest) if highest >= threshold else None
