"""Scores of a judge are parsed strictly, and rules score what needs no judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.results.evaluation import GeneratedText
from lep.sampling.backends import Failure, Messages, OnResult
from lep.sampling.llm_judge import JUDGE_PROMPT, build_judge_message, parse_judge_reply, score_by_llm
from lep.sampling.rule_judge import Score

PROMPT: Messages = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Сколько {ног} у кошки?"},
]


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Right and short.\nGrade: 5", Score(5, (), "Right and short.")),
        ("A bit\nlong.\n\n**Grade: 4**\n", Score(4, (), "A bit long.")),
        ("Grade: 1", Score(1)),
        ("grade 4 of 5.\nGrade:3.", Score(3, (), "grade 4 of 5.")),
    ],
)
def test_a_score_is_alone_in_the_last_line(text, score) -> None:
    assert parse_judge_reply(GeneratedText(text, 5)) == score


@pytest.mark.parametrize(
    "text",
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
def test_other_replies_have_no_score(text) -> None:
    assert parse_judge_reply(GeneratedText(text, 5)) == Score(None, ("no score",), text)


def test_a_failure_of_the_judge_has_no_score() -> None:
    assert parse_judge_reply(Failure("HTTP 400")) == Score(None, ("no score",), "HTTP 400")


def test_the_judge_reads_the_conversation_and_the_answer() -> None:
    message = build_judge_message(PROMPT, GeneratedText(" {Четыре}.\n", 3))
    assert "system: Be kind.\n\nuser: Сколько {ног} у кошки?\n" in message
    assert "[The answer to grade]\n{Четыре}.\n" in message
    assert message.endswith("Grade: N\n") and len(message) < len(JUDGE_PROMPT) + 60


def test_only_complete_answers_are_judged(tmp_path: Path) -> None:
    judged: list[str] = []

    class Judge:
        def complete(self, requests: Any, *, decoding: Any, done_keys: Any, on_result: OnResult) -> None:
            assert decoding.temperature == 0
            for request in requests:
                judged.append(request.place)
                text = "Good.\nGrade: 4" if "да" in request.messages[0]["content"] else "Well…"
                on_result(request, GeneratedText(text, 4))

    answers = [
        GeneratedText("да, конечно", 3),
        Failure("HTTP 500"),
        GeneratedText("нет, что вы", 3),
        GeneratedText("", 0),
        GeneratedText("да", 9, truncated=True),
    ]
    judged_answers = [(PROMPT, answer, f"p:{number}") for number, answer in enumerate(answers)]
    scores = score_by_llm(Judge(), judged_answers, file=tmp_path / "judgments.jsonl")
    assert scores == [
        Score(4, (), "Good."),
        Score(None, ("no answer",), "HTTP 500"),
        Score(None, ("no score",), "Well…"),
        Score(None, ("empty",)),
        Score(2, ("truncated", "short")),
    ]
    assert judged == ["p:0", "p:2"]
    assert [json.loads(line)["prompt_index"] for line in (tmp_path / "judgments.jsonl").read_text().splitlines()] == [
        0,
        1,
    ]
