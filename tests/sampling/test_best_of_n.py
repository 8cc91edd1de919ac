"""The best candidate of each prompt is selected, and rejections keep their reasons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lep.data.conversations import Conversation, Message
from lep.results.evaluation import GeneratedText
from lep.sampling.backends import DecodingConfig, Failure, OnResult
from lep.sampling.best_of_n import ScoredAnswer, count_rejections, generate_and_score
from lep.sampling.rule_judge import Score

GOOD, BETTER = "Хороший ответ по-русски", "Лучший ответ по-русски"
SCORES = {GOOD: 4, BETTER: 5, "Плохой ответ": 2}


class Teacher:
    """Answers by the prompt: its words are the candidates' answers."""

    def complete(self, requests: Any, *, decoding: Any, done_keys: Any, on_result: OnResult) -> None:
        for request in requests:
            text = request.messages[-1]["content"].split("|")[request.candidate_index]
            on_result(request, Failure("HTTP 400") if text == "-" else GeneratedText(text, 3))


class Judge:
    def complete(self, requests: Any, *, decoding: Any, done_keys: Any, on_result: OnResult) -> None:
        for request in requests:
            answer = request.messages[0]["content"].partition("[The answer to grade]")[2]
            score = next((score for text, score in SCORES.items() if text in answer), None)
            on_result(request, GeneratedText(f"So so.\nGrade: {score}" if score else "?", 3))


def prompt(*candidates: str) -> Conversation:
    return Conversation((Message("user", "|".join(candidates)),), "p:1", "prompts")


def score(folder: Path, prompts: list[Conversation], *, judge: Any = None, min_score: int = 4) -> list[ScoredAnswer]:
    count = len(prompts[0].messages[0].content.split("|"))
    return generate_and_score(
        prompts,
        teacher=Teacher(),
        judge=judge,
        decoding=DecodingConfig(max_new_tokens=9),
        num_candidates=count,
        min_score=min_score,
        folder=folder,
    )


def test_the_first_of_the_best_is_selected(tmp_path) -> None:
    prompts = [prompt(GOOD, BETTER, GOOD), prompt("-", GOOD, GOOD), prompt("Плохой ответ", "-", "невнятный ответ")]
    answers = score(tmp_path, prompts, judge=Judge())
    assert [answer.selected for answer in answers] == [False, True, False, False, True, False, False, False, False]
    assert [answer.score.value for answer in answers] == [4, 5, 4, None, 4, 4, 2, None, None]
    assert count_rejections(answers, min_score=4) == {"not the best": 3, "no answer": 2, "score 2": 1, "no score": 1}


@pytest.mark.parametrize(("min_score", "num_selected"), [(3, 2), (4, 1), (5, 1)])
def test_answers_below_the_minimum_are_rejected(tmp_path, min_score, num_selected) -> None:
    answers = score(
        tmp_path, [prompt(GOOD + ", длинный и понятный"), prompt("К сожалению, я не могу помочь")], min_score=min_score
    )
    assert sum(answer.selected for answer in answers) == num_selected
    assert count_rejections(answers, min_score=min_score) == ({} if num_selected == 2 else {"refusal": 1})


def test_a_selected_answer_is_trained_and_rows_have_all_answers(tmp_path) -> None:
    first, second = score(tmp_path, [prompt(GOOD + "\n"), prompt("-")])
    conversation = first.to_conversation(source="answers")
    assert conversation.messages == (Message("user", GOOD + "\n"), Message("assistant", GOOD))
    assert (conversation.first_trained_message, conversation.place, conversation.source) == (1, "p:1", "answers")
    assert first.to_row() == {
        "prompt": [{"role": "user", "content": GOOD + "\n"}],
        "completion": [{"role": "assistant", "content": GOOD}],
        "place": "p:1",
        "score": 5,
        "issues": [],
        "explanation": "",
        "selected": True,
    }
    assert second.to_row() == {
        "prompt": [{"role": "user", "content": "-"}],
        "completion": [],
        "place": "p:1",
        "score": None,
        "issues": ["no answer"],
        "explanation": "HTTP 400",
        "selected": False,
    }
    assert second.score == Score(None, ("no answer",), "HTTP 400")
