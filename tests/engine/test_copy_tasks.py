"""Copy tasks are held-out texts, whole or one sentence, asked for in their language; measured ones are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.engine.copy_tasks import INSTRUCTIONS, ROOM, SENTENCE, SHORTEST, copy_tasks
from lep.engine.models import load_tokenizer
from lep.engine.rendering import render
from lep.errors import DataError
from lep.io.conversations import Conversation
from lep.io.corpus import heldout_excerpt


def articles(sentences: list[str], *, each: int = 12) -> list[str]:
    return ["\n".join(sentences[at : at + each]) for at in range(0, len(sentences), each)]


def write(folder: Path, language: str, documents: list[str]) -> None:
    text = "".join(json.dumps({"text": document}, ensure_ascii=False) + "\n" for document in documents)
    (folder / f"{language}.heldout.jsonl").write_text(text)


@pytest.fixture
def corpus(texts, tmp_path: Path) -> Path:
    for language in ("ru", "en"):
        write(tmp_path, language, articles(texts[language]))
        (tmp_path / f"{language}.train.jsonl").write_text('{"text": "Never copied."}\n')
    return tmp_path


@pytest.fixture(scope="module")
def tokenizer(tokenizers):
    return load_tokenizer(tokenizers["byte_level"])


def made(corpus: Path, tokenizer: Any, **more: Any) -> list[Conversation]:
    settings: dict[str, Any] = {"languages": None, "sentences": 10, "articles": 6, "maximum_length": 4096}
    return copy_tasks(corpus, tokenizer=tokenizer, **settings | {"measured_characters": 0, "seed": 0} | more)


def copied(task: Conversation) -> str:
    return task.messages[1].content


def test_as_many_from_each_language_asked_for_in_it(corpus: Path, tokenizer, texts) -> None:
    tasks = made(corpus, tokenizer, sentences=11)
    assert len(tasks) == 17 and len({copied(task) for task in tasks}) == 17
    by_language = {code: [task for task in tasks if f":{code}:" in task.place] for code in ("en", "ru")}
    assert [len(found) for found in by_language.values()] == [9, 8]
    for code, found in by_language.items():
        for task in found:
            instruction, text = task.messages[0].content.split("\n\n")
            assert instruction in INSTRUCTIONS[code] and text == copied(task)
            assert text in texts[code] or text in articles(texts[code])
    lengths = [len(copied(task)) for task in by_language["ru"]]
    assert max(lengths[:5]) <= SENTENCE[1] and min(lengths[5:]) >= SHORTEST


def test_the_same_seed_gives_the_same_whatever_the_order(corpus: Path, tokenizer, texts) -> None:
    first, other = made(corpus, tokenizer), made(corpus, tokenizer, seed=1)
    for language in ("ru", "en"):
        write(corpus, language, articles(texts[language])[::-1])
    assert made(corpus, tokenizer) == first != other


def test_texts_that_are_measured_are_left_alone(corpus: Path, tokenizer) -> None:
    measured = "\n".join(heldout_excerpt(corpus, "ru", characters=40_000))
    tasks = made(corpus, tokenizer, languages=["ru"], measured_characters=40_000)
    assert not any(copied(task) in measured for task in tasks if len(copied(task)) >= SHORTEST)
    with pytest.raises(DataError, match=r"10 texts of 'ru' are needed .* 0 can be used; hold out more"):
        made(corpus, tokenizer, languages=["ru"], measured_characters=10**7)


def test_a_long_article_is_cut_after_a_sentence_and_fits(corpus: Path, tokenizer, texts) -> None:
    write(corpus, "en", articles(texts["en"], each=100))
    tasks = made(corpus, tokenizer, languages=["en"], sentences=0, articles=3, maximum_length=800)
    assert all(len(render(tokenizer, task).ids) <= 800 for task in tasks)
    for task in tasks:
        assert len(copied(task)) >= SHORTEST and copied(task).split("\n")[-1] in texts["en"]
        assert len(tokenizer(copied(task))["input_ids"]) > (800 - ROOM) // 2 - 60
    with pytest.raises(DataError, match=r"3 texts of 'en' are needed for copy tasks"):
        made(corpus, tokenizer, languages=["en"], sentences=0, articles=3, maximum_length=100)


def test_headings_and_halves_are_no_sentences(tmp_path: Path, tokenizer) -> None:
    sentence = "«Где же он теперь, наш старый профессор?» Так спросил сосед, и никто ему не ответил."
    parts = ["Глава первая, в которой ничего ещё не происходит", sentence, "и на этом она обрывается навсегда, увы."]
    write(tmp_path, "ru", ["\n".join(parts)])
    (task,) = made(tmp_path, tokenizer, sentences=1, articles=0)
    assert copied(task) in ("«Где же он теперь, наш старый профессор?»", "Так спросил сосед, и никто ему не ответил.")


def test_a_language_by_another_name(corpus: Path, tokenizer, texts) -> None:
    write(corpus, "news", articles(texts["ru"]))
    tasks = made(corpus, tokenizer, languages=["news"], articles=0)
    assert all(task.messages[0].content.split("\n")[0] in INSTRUCTIONS["ru"] for task in tasks)
    write(corpus, "fi", ["Vanha professori luki kirjaa kirjastossa ja kirjoitti pitkän kirjeen ystävälleen. " * 3])
    with pytest.raises(DataError, match=r"no words to ask for a copy in 'fi' .*leave it out"):
        made(corpus, tokenizer, languages=["fi"], sentences=1, articles=0)
