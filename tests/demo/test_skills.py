"""The instruction set: right answers, nothing shared between the splits, the same rows from the same seed."""

import random
import re
from collections import Counter

import pytest

import skills

RUSSIAN_LETTERS, ENGLISH_LETTERS = "абвгдежзиклмнопрстуфхцчшщыэюя", "abcdefghijklmnoprstuvw"


def documents(letters: str, *, count: int = 4000) -> list[str]:
    """Lines of made-up words, as many as phrases are asked for and more."""
    source = random.Random(7)
    words = ["".join(source.choices(letters, k=source.randint(4, 9))) for _ in range(3000)]
    return [" ".join(source.choices(words, k=8)).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def rows() -> tuple[list[dict], list[dict]]:
    return skills.generate(documents(RUSSIAN_LETTERS), documents(ENGLISH_LETTERS), seed=0)


def asked(row: dict) -> str:
    return row["prompt"][0]["content"]


def answered(row: dict) -> str:
    return row["completion"][0]["content"]


def solve(skill: str, prompt: str) -> str:
    """The right answer, found from the prompt alone."""
    if skill.startswith("larger"):
        return str(max(map(int, re.findall(r"\d+", prompt))))
    if skill.startswith("copy"):
        return prompt.split(": ")[1]
    if skill == "first_ru":
        return re.split(r"[?:] ", prompt)[1].split()[0]
    if skill == "contains_ru":
        word = re.search(r"слово «(.+?)»", prompt)[1]
        phrase = (re.search(r"фразе «(.+?)»", prompt) or re.search(r"Фраза: (.+?)\. ", prompt))[1]
        return "да" if word in phrase.split() else "нет"
    names = skills.NOUNS if skill == "category_en" else skills.OPINIONS
    words = set(re.split(r"[^\w-]+", re.split(r"[:?] ", prompt, maxsplit=1)[-1]))
    [answer] = [name for name, listed in names.items() if words & set(listed.split())]
    return answer


def test_every_skill_has_its_count(rows):
    train, heldout = rows
    assert Counter(row["skill"] for row in train) == dict.fromkeys(skills.SKILLS, skills.TRAIN)
    assert Counter(row["skill"] for row in heldout) == dict.fromkeys(skills.SKILLS, skills.HELDOUT)


def test_answers_are_right(rows):
    for row in rows[0] + rows[1]:
        assert answered(row) == solve(row["skill"], asked(row)), asked(row)


def test_a_row_is_one_question_and_one_answer(rows):
    for row in rows[0] + rows[1]:
        assert [message["role"] for message in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert len(asked(row).split()) < 30


def test_prompts_occur_once_over_both_splits(rows):
    prompts = [asked(row) for row in rows[0] + rows[1]]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("skill", ["copy_ru", "copy_en"])
def test_phrases_of_the_splits_are_different(rows, skill):
    train, heldout = ({answered(row) for row in split if row["skill"] == skill} for split in rows)
    assert not train & heldout


@pytest.mark.parametrize("skill", ["larger_ru", "larger_en"])
def test_a_held_out_pair_is_not_trained_on_in_the_other_order(rows, skill):
    train, heldout = (
        {frozenset(re.findall(r"\d+", asked(row))) for row in split if row["skill"] == skill} for split in rows
    )
    assert not train & heldout


def test_words_of_a_list_are_in_one_split_and_one_list(rows):
    for lists in (skills.NOUNS, skills.OPINIONS):
        words = " ".join(lists.values()).split()
        assert len(set(words)) == len(words)


@pytest.mark.parametrize("skill", ["contains_ru", "category_en", "sentiment_en"])
def test_answers_are_balanced(rows, skill):
    for split in rows:
        counts = Counter(answered(row) for row in split if row["skill"] == skill)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("skill", ["larger_ru", "larger_en"])
def test_the_larger_number_is_first_half_of_the_time(rows, skill):
    for split in rows:
        chosen = [row for row in split if row["skill"] == skill]
        first = sum(re.search(r"\d+", asked(row))[0] == answered(row) for row in chosen)
        assert 2 * first == len(chosen)


def test_the_seed_decides(rows):
    texts = documents(RUSSIAN_LETTERS), documents(ENGLISH_LETTERS)
    assert skills.generate(*texts, seed=0) == rows
    assert skills.generate(*texts, seed=1) != rows


def test_too_few_documents_are_an_error():
    with pytest.raises(skills.DataError, match="phrases"):
        skills.generate(["слово за слово"], documents(ENGLISH_LETTERS), seed=0)
