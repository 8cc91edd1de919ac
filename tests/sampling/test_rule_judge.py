"""Rules find what a good answer cannot look like, and nothing else."""

from __future__ import annotations

import random

import pytest

from lep.modeling.generation import Answer
from lep.sampling.backends import Messages, NoAnswer
from lep.sampling.rule_judge import FAULTS, REFUSALS, Grade, grade_by_rules, repeated_share

RUSSIAN = (
    "Расскажи, пожалуйста, почему зимой дни становятся короче, а ночи длиннее, и что происходит летом в это время."
)
GOOD = (
    "Земля вращается вокруг Солнца с наклонённой осью. Зимой северное полушарие отвёрнуто от Солнца, поэтому день "
    "короче, а ночь длиннее. Летом оно, наоборот, повёрнуто к Солнцу, и день становится длинным."
)
ENGLISH = "The axis of the Earth is tilted, so in winter the northern half of the planet is turned away from the Sun."
UKRAINIAN = (
    "Вісь Землі нахилена, тому взимку північна півкуля відвернута від Сонця, і день стає коротшим, а ніч довшою. "
    "Влітку все навпаки: півкуля повернута до Сонця, отже світловий день триває найдовше."
)
CODE = "Вот программа:\n```python\nfor line in open('file'):\n    print(line.strip().lower().split(','))\n```"


def grade(answer: str, *, prompt: str = RUSSIAN, cut: bool = False) -> Grade:
    asked: Messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": prompt}]
    return grade_by_rules(asked, Answer(answer, 50, cut=cut))


@pytest.mark.parametrize(
    ("answer", "prompt"),
    [
        (GOOD, RUSSIAN),
        (ENGLISH, "Why are the days shorter in winter?"),
        (CODE, "Напиши программу на языке Python, которая читает файл и печатает его строки без пробелов."),
        ("As an airport, it was an AI pioneer.", "What was it as an airport?"),
        ("Столица Франции — Париж.", "Какой город является столицей Франции?"),
        ("因为地球的自转轴是倾斜的，所以冬天白天短。", "为什么冬天白天短？"),
        ("1 234 567 890 123", "Сколько будет 1 234 567 890 000 плюс 123?"),
        ("Я не согласен: к сожалению, в задаче ошибка.", RUSSIAN),
    ],
)
def test_nothing_is_wrong_with_a_good_answer(answer, prompt) -> None:
    assert grade(answer, prompt=prompt) == Grade(5)


@pytest.mark.parametrize(
    ("answer", "faults", "value"),
    [
        (ENGLISH, ("script",), 3),
        (UKRAINIAN, ("language",), 3),
        (GOOD[:80] + " и так далее, и тому подобное, и прочее" * 8, ("repetition",), 3),
        (GOOD[:80] + "а" * 80, ("repetition",), 3),
        ("К сожалению, я не могу ответить на этот вопрос.", ("refusal",), 3),
        ("Извините, но я не могу с этим помочь: я всего лишь программа.", ("refusal",), 3),
        ("I’m sorry, but I can’t help with that request.", ("script", "refusal"), 1),
        ("Как мне сказали: as an AI, I cannot help.", ("script", "refusal"), 1),
        ("Да.", ("short",), 4),
        ("Yes.", ("script", "short"), 2),
    ],
)
def test_each_fault_is_found_and_weighed(answer, faults, value) -> None:
    assert grade(answer) == Grade(value, faults)
    assert value == max(1, 5 - sum(FAULTS[fault] for fault in faults))


def test_an_answer_that_was_cut_is_below_the_papers_threshold() -> None:
    assert grade(GOOD, cut=True) == Grade(3, ("cut",))


def test_no_answer_has_no_grade() -> None:
    assert grade("") == grade(" \n…!") == Grade(None, ("empty",))
    assert grade_by_rules([{"role": "user", "content": "?"}], NoAnswer("HTTP 400")) == Grade(
        None, ("no answer",), "HTTP 400"
    )


def test_what_is_looked_for_is_in_small_letters() -> None:
    assert all(phrase == phrase.lower() for phrase in REFUSALS) and len({*REFUSALS}) == len(REFUSALS)


def test_repetition_is_a_share_of_places() -> None:
    assert repeated_share("") == repeated_share("a" * 20) == 0.0
    assert repeated_share("a" * 21) == 0.5
    assert repeated_share("abcdefghij" * 100) > 0.98
    text = "".join(random.Random(0).choices("абвгдежзийклмн", k=400))
    assert repeated_share(text) == 0.0
    assert repeated_share(text + text) == pytest.approx(0.5, abs=0.03)
