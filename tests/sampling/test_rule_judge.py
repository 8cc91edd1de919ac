"""Rules find issues of form, and nothing else."""

from __future__ import annotations

import random

import pytest

from lep.results.evaluation import GeneratedText
from lep.sampling.backends import Failure, Messages
from lep.sampling.rule_judge import ISSUE_PENALTIES, REFUSAL_PATTERNS, Score, repetition_fraction, score_by_rules

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


def score(answer: str, *, prompt: str = RUSSIAN, truncated: bool = False) -> Score:
    messages: Messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": prompt}]
    return score_by_rules(messages, GeneratedText(answer, 50, truncated=truncated))


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
def test_a_good_answer_has_no_issues(answer, prompt) -> None:
    assert score(answer, prompt=prompt) == Score(5)


@pytest.mark.parametrize(
    ("answer", "issues", "value"),
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
def test_each_issue_is_found_and_penalized(answer, issues, value) -> None:
    assert score(answer) == Score(value, issues)
    assert value == max(1, 5 - sum(ISSUE_PENALTIES[issue] for issue in issues))


def test_a_truncated_answer_is_below_the_papers_minimum() -> None:
    assert score(GOOD, truncated=True) == Score(3, ("truncated",))


def test_an_empty_answer_has_no_score() -> None:
    assert score("") == score(" \n…!") == Score(None, ("empty",))
    assert score_by_rules([{"role": "user", "content": "?"}], Failure("HTTP 400")) == Score(
        None, ("no answer",), "HTTP 400"
    )


def test_refusal_patterns_are_lower_case_and_unique() -> None:
    assert all(phrase == phrase.lower() for phrase in REFUSAL_PATTERNS) and len({*REFUSAL_PATTERNS}) == len(
        REFUSAL_PATTERNS
    )


def test_the_repetition_fraction_is_one_of_positions() -> None:
    assert repetition_fraction("") == repetition_fraction("a" * 20) == 0.0
    assert repetition_fraction("a" * 21) == 0.5
    assert repetition_fraction("abcdefghij" * 100) > 0.98
    text = "".join(random.Random(0).choices("абвгдежзийклмн", k=400))
    assert repetition_fraction(text) == 0.0
    assert repetition_fraction(text + text) == pytest.approx(0.5, abs=0.03)
