"""A judge's grade is read strictly, and it is not asked about what rules tell."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.modeling.generation import Answer
from lep.sampling.backends import Keep, Messages, NoAnswer
from lep.sampling.llm_judge import JUDGE_PROMPT, grade_by_model, question, read_verdict
from lep.sampling.rule_judge import Grade

PROMPT: Messages = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Сколько {ног} у кошки?"},
]


@pytest.mark.parametrize(
    ("said", "grade"),
    [
        ("Right and short.\nGrade: 5", Grade(5, (), "Right and short.")),
        ("A bit\nlong.\n\n**Grade: 4**\n", Grade(4, (), "A bit long.")),
        ("Grade: 1", Grade(1)),
        ("grade 4 of 5.\nGrade:3.", Grade(3, (), "grade 4 of 5.")),
    ],
)
def test_a_grade_stands_alone_in_the_last_line(said, grade) -> None:
    assert read_verdict(Answer(said, 5)) == grade


@pytest.mark.parametrize(
    "said",
    [
        "",
        "5",
        "Grade: 6",
        "Grade: 4.5",
        "Grade: 45",
        "Grade: 4 or 5",
        "Grade: 4\nThat is all.",
        "It is Grade: 4",
        "Grade: N",
    ],
)
def test_what_is_no_grade_is_not_guessed(said) -> None:
    assert read_verdict(Answer(said, 5)) == Grade(None, ("no grade",), said)


def test_the_judge_may_be_silent() -> None:
    assert read_verdict(NoAnswer("HTTP 400")) == Grade(None, ("no grade",), "HTTP 400")


def test_the_judge_reads_the_conversation_and_the_answer() -> None:
    asked = question(PROMPT, Answer(" {Четыре}.\n", 3))
    assert "system: Be kind.\n\nuser: Сколько {ног} у кошки?\n" in asked
    assert "[The answer to grade]\n{Четыре}.\n" in asked
    assert asked.endswith("Grade: N\n") and len(asked) < len(JUDGE_PROMPT) + 60


def test_only_whole_answers_are_judged(tmp_path: Path) -> None:
    asked: list[str] = []

    class Judge:
        def answer(self, wanted: Any, *, decoding: Any, done: Any, keep: Keep) -> None:
            assert decoding.temperature == 0
            for one in wanted:
                asked.append(one.place)
                keep(one, Answer("Good.\nGrade: 4" if "да" in one.messages[0]["content"] else "Well…", 4))

    answers = [
        Answer("да, конечно", 3),
        NoAnswer("HTTP 500"),
        Answer("нет, что вы", 3),
        Answer("", 0),
        Answer("да", 9, cut=True),
    ]
    answered = [(PROMPT, answer, f"p:{number}") for number, answer in enumerate(answers)]
    grades = grade_by_model(Judge(), answered, file=tmp_path / "judging.jsonl")
    assert grades == [
        Grade(4, (), "Good."),
        Grade(None, ("no answer",), "HTTP 500"),
        Grade(None, ("no grade",), "Well…"),
        Grade(None, ("empty",)),
        Grade(2, ("cut", "short")),
    ]
    assert asked == ["p:0", "p:2"]
    assert [json.loads(line)["row"] for line in (tmp_path / "judging.jsonl").read_text().splitlines()] == [0, 1]
