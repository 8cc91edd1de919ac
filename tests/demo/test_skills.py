"""The instruction set: right answers, disjoint splits, reproducible rows."""

import random
import re
from collections import Counter

import pytest

import skills

RUSSIAN_LETTERS, ENGLISH_LETTERS = "абвгдежзиклмнопрстуфхцчшщыэюя", "abcdefghijklmnoprstuvw"


def documents(letters: str, *, count: int = 4000) -> list[str]:
    """Lines of random words, more than the phrases that are needed."""
    generator = random.Random(7)
    words = ["".join(generator.choices(letters, k=generator.randint(4, 9))) for _ in range(3000)]
    return [" ".join(generator.choices(words, k=8)).capitalize() + "." for _ in range(count)]


@pytest.fixture(scope="module")
def rows() -> tuple[list[dict], list[dict]]:
    return skills.generate_rows(documents(RUSSIAN_LETTERS), documents(ENGLISH_LETTERS), seed=0)


def get_prompt(row: dict) -> str:
    return row["prompt"][0]["content"]


def get_answer(row: dict) -> str:
    return row["completion"][0]["content"]


def solve(skill: str, prompt: str) -> str:
    """Find the right answer from the prompt alone."""
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
    [answer] = [name for name, words_of_name in names.items() if words & set(words_of_name.split())]
    return answer


def test_every_skill_has_its_count(rows):
    train, heldout = rows
    assert Counter(row["skill"] for row in train) == dict.fromkeys(skills.SKILLS, skills.TRAIN)
    assert Counter(row["skill"] for row in heldout) == dict.fromkeys(skills.SKILLS, skills.HELDOUT)


def test_answers_are_right(rows):
    for row in rows[0] + rows[1]:
        assert get_answer(row) == solve(row["skill"], get_prompt(row)), get_prompt(row)


def test_a_row_is_one_question_and_one_answer(rows):
    for row in rows[0] + rows[1]:
        assert [message["role"] for message in row["prompt"] + row["completion"]] == ["user", "assistant"]
        assert len(get_prompt(row).split()) < 30


def test_prompts_occur_once_over_both_splits(rows):
    prompts = [get_prompt(row) for row in rows[0] + rows[1]]
    assert len(set(prompts)) == len(prompts)


@pytest.mark.parametrize("skill", ["copy_ru", "copy_en"])
def test_phrases_of_the_splits_are_different(rows, skill):
    train, heldout = ({get_answer(row) for row in split if row["skill"] == skill} for split in rows)
    assert not train & heldout


@pytest.mark.parametrize("skill", ["larger_ru", "larger_en"])
def test_a_held_out_pair_is_not_trained_on_in_the_other_order(rows, skill):
    train, heldout = (
        {frozenset(re.findall(r"\d+", get_prompt(row))) for row in split if row["skill"] == skill} for split in rows
    )
    assert not train & heldout


def test_words_of_a_list_are_in_one_split_and_one_list(rows):
    for lists in (skills.NOUNS, skills.OPINIONS):
        words = " ".join(lists.values()).split()
        assert len(set(words)) == len(words)


@pytest.mark.parametrize("skill", ["contains_ru", "category_en", "sentiment_en"])
def test_answers_are_balanced(rows, skill):
    for split in rows:
        counts = Counter(get_answer(row) for row in split if row["skill"] == skill)
        assert max(counts.values()) - min(counts.values()) <= 1


@pytest.mark.parametrize("skill", ["larger_ru", "larger_en"])
def test_the_larger_number_is_first_half_of_the_time(rows, skill):
    for split in rows:
        chosen = [row for row in split if row["skill"] == skill]
        larger_first = sum(re.search(r"\d+", get_prompt(row))[0] == get_answer(row) for row in chosen)
        assert 2 * larger_first == len(chosen)


def test_the_seed_determines_the_rows(rows):
    texts = documents(RUSSIAN_LETTERS), documents(ENGLISH_LETTERS)
    assert skills.generate_rows(*texts, seed=0) == rows
    assert skills.generate_rows(*texts, seed=1) != rows


def test_too_few_documents_are_an_error():
    with pytest.raises(skills.DataError, match="phrases"):
        skills.generate_rows(["слово за слово"], documents(ENGLISH_LETTERS), seed=0)
