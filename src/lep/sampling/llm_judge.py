"""Grades of answers, from 1 to 5, by a model that reads them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from lep.modeling.generation import Answer
from lep.sampling.backends import Answerer, Decoding, Messages, NoAnswer, answer_all
from lep.sampling.rule_judge import Grade, grade_by_rules

JUDGE_PROMPT = """\
You grade the last answer of a conversation between a user and an assistant.

[The conversation]
{conversation}

[The answer to grade]
{answer}

[How to grade]
5: right, complete, clear, and in the language of the user.
4: helpful, with a small weakness.
3: helpful in part: something important is missing, wrong, or in another language.
2: mostly wrong, or mostly beside the question.
1: useless, empty, endlessly repeating, or a refusal without a reason.

Say in one short sentence what is good or bad about the answer. Then end with a line of its own, in this form and with
one whole number from 1 to 5:
Grade: N
"""
"""What a judge is asked."""

_GRADE = re.compile(r"\**Grade:\**\s*([1-5])\**\.?")
_VERDICT = 256
"""Tokens that a judge may take."""


def grade_by_model(
    judge: Answerer, answered: Sequence[tuple[Messages, Answer | NoAnswer, str]], *, file: Path
) -> list[Grade]:
    """Grades by a judge, greedily; of answers that are empty or were cut it is not asked: there, rules are enough.

    Args:
        judge: a model that can follow `JUDGE_PROMPT`.
        answered: prompts, their answers, and the place of the prompt.
        file: keeps the judge's words, one by one; see `lep.sampling.backends.answer_all`.
    """
    grades: dict[int, Grade] = {}
    asked: dict[int, tuple[Messages, str]] = {}
    for number, (prompt, answer, place) in enumerate(answered):
        form = grade_by_rules(prompt, answer)
        if isinstance(answer, NoAnswer) or answer.cut or form.value is None:
            grades[number] = form
        else:
            asked[number] = [{"role": "user", "content": question(prompt, answer)}], place
    decoding = Decoding(longest=_VERDICT)
    said = answer_all(judge, list(asked.values()), decoding=decoding, file=file, label="judging")
    grades |= {number: read_verdict(one[0]) for number, one in zip(asked, said, strict=True)}
    return [grades[number] for number in range(len(answered))]


def question(prompt: Messages, answer: Answer) -> str:
    """What the judge is asked about an answer."""
    conversation = "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)
    return JUDGE_PROMPT.format(conversation=conversation, answer=answer.text.strip())


def read_verdict(said: Answer | NoAnswer) -> Grade:
    """The grade that stands alone in the last line, with the words before it; nothing else is taken for a grade."""
    if isinstance(said, NoAnswer):
        return Grade(None, ("no grade",), said.reason)
    *words, last = said.text.strip().splitlines() or [""]
    if not (found := _GRADE.fullmatch(last.strip())):
        return Grade(None, ("no grade",), said.text)
    return Grade(int(found[1]), words=" ".join(" ".join(words).split()))
