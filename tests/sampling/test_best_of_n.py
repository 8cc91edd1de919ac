"""Of each prompt's candidates the best is kept, and what is dropped keeps its reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lep.data.conversations import Conversation, Message
from lep.modeling.generation import Answer
from lep.sampling.backends import Decoding, Keep, NoAnswer
from lep.sampling.best_of_n import Judged, answer_and_judge, dropped
from lep.sampling.rule_judge import Grade

GOOD, BETTER = "Хороший ответ по-русски", "Лучший ответ по-русски"
GRADES = {GOOD: 4, BETTER: 5, "Плохой ответ": 2}


class Teacher:
    """Answers by the prompt: its words are the candidates' answers."""

    def answer(self, asked: Any, *, decoding: Any, done: Any, keep: Keep) -> None:
        for one in asked:
            said = one.messages[-1]["content"].split("|")[one.candidate]
            keep(one, NoAnswer("HTTP 400") if said == "-" else Answer(said, 3))


class Judge:
    def answer(self, asked: Any, *, decoding: Any, done: Any, keep: Keep) -> None:
        for one in asked:
            answer = one.messages[0]["content"].partition("[The answer to grade]")[2]
            grade = next((grade for text, grade in GRADES.items() if text in answer), None)
            keep(one, Answer(f"So so.\nGrade: {grade}" if grade else "?", 3))


def prompt(*candidates: str) -> Conversation:
    return Conversation((Message("user", "|".join(candidates)),), "p:1", "prompts")


def judged(folder: Path, prompts: list[Conversation], *, judge: Any = None, threshold: int = 4) -> list[Judged]:
    count = len(prompts[0].messages[0].content.split("|"))
    return answer_and_judge(
        prompts,
        teacher=Teacher(),
        judge=judge,
        decoding=Decoding(longest=9),
        candidates=count,
        threshold=threshold,
        folder=folder,
    )


def test_the_first_of_the_best_is_kept(tmp_path) -> None:
    prompts = [prompt(GOOD, BETTER, GOOD), prompt("-", GOOD, GOOD), prompt("Плохой ответ", "-", "невнятный ответ")]
    found = judged(tmp_path, prompts, judge=Judge())
    assert [one.kept for one in found] == [False, True, False, False, True, False, False, False, False]
    assert [one.grade.value for one in found] == [4, 5, 4, None, 4, 4, 2, None, None]
    assert dropped(found, threshold=4) == {"not the best": 3, "no answer": 2, "grade 2": 1, "no grade": 1}


@pytest.mark.parametrize(("threshold", "kept"), [(3, 2), (4, 1), (5, 1)])
def test_what_is_below_the_threshold_is_dropped(tmp_path, threshold, kept) -> None:
    found = judged(
        tmp_path, [prompt(GOOD + ", длинный и понятный"), prompt("К сожалению, я не могу помочь")], threshold=threshold
    )
    assert sum(one.kept for one in found) == kept
    assert dropped(found, threshold=threshold) == ({} if kept == 2 else {"refusal": 1})


def test_a_kept_answer_is_learnt_and_a_row_tells_all(tmp_path) -> None:
    first, second = judged(tmp_path, [prompt(GOOD + "\n"), prompt("-")])
    learnt = first.conversation(source="answers")
    assert learnt.messages == (Message("user", GOOD + "\n"), Message("assistant", GOOD))
    assert (learnt.first_answer, learnt.place, learnt.source) == (1, "p:1", "answers")
    assert first.row() == {
        "prompt": [{"role": "user", "content": GOOD + "\n"}],
        "completion": [{"role": "assistant", "content": GOOD}],
        "place": "p:1",
        "grade": 5,
        "faults": [],
        "words": "",
        "kept": True,
    }
    assert second.row() == {
        "prompt": [{"role": "user", "content": "-"}],
        "completion": [],
        "place": "p:1",
        "grade": None,
        "faults": ["no answer"],
        "words": "HTTP 400",
        "kept": False,
    }
    assert second.grade == Grade(None, ("no answer",), "HTTP 400")
