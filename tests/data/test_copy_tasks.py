"""Copy tasks are held-out texts, whole or one sentence, asked for in their language; measured ones are left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.data.chat_template import render
from lep.data.conversations import Conversation
from lep.data.copy_tasks import INSTRUCTIONS, ROOM, SENTENCE, SHORTEST, copy_tasks
from lep.data.corpus import heldout_excerpt
from lep.errors import DataError
from lep.modeling.loading import load_tokenizer


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


def made(corpus: Path, tokenizer: Any, *, count: int = 16, **more: Any) -> list[Conversation]:
    return copy_tasks(
        corpus, count=count, tokenizer=tokenizer, **{"maximum_length": 4096, "seed": 0, "measured": 0} | more
    )


def copied(task: Conversation) -> str:
    return task.messages[1].content


def test_languages_in_turn_half_sentences_half_articles(corpus: Path, tokenizer, texts) -> None:
    tasks = made(corpus, tokenizer, count=17)
    assert len({copied(task) for task in tasks}) == 17
    codes = [task.place.split(":")[1] for task in tasks]
    assert codes == ["en", "ru"] * 4 + ["en", "ru"] * 4 + ["en"]
    for code, task in zip(codes, tasks, strict=True):
        instruction, text = task.messages[0].content.split("\n\n")
        assert instruction in INSTRUCTIONS[code] and text == copied(task)
        assert text in texts[code] or text in articles(texts[code])
    lengths = [len(copied(task)) for task in tasks]
    assert max(lengths[:8]) <= SENTENCE[1] and min(lengths[8:]) >= SHORTEST


def test_a_language_that_runs_out_leaves_its_turn_to_others(corpus: Path, tokenizer, texts) -> None:
    write(corpus, "en", articles(texts["en"])[:2])
    codes = [task.place.split(":")[1] for task in made(corpus, tokenizer)]
    assert codes == (["en", "ru"] * 2 + ["ru"] * 4) * 2


def test_the_same_seed_gives_the_same_whatever_the_order(corpus: Path, tokenizer, texts) -> None:
    first, other = made(corpus, tokenizer), made(corpus, tokenizer, seed=1)
    for language in ("ru", "en"):
        write(corpus, language, articles(texts[language])[::-1])
    assert made(corpus, tokenizer) == first != other


def test_texts_that_are_measured_are_left_alone(corpus: Path, tokenizer) -> None:
    measured = "\n".join(text for code in ("ru", "en") for text in heldout_excerpt(corpus, code, characters=40_000))
    tasks = made(corpus, tokenizer, count=40, measured=40_000)
    assert not any(copied(task) in measured for task in tasks[20:])
    with pytest.raises(DataError, match=r"8 sentences are needed .* 0 can be used; hold out more text"):
        made(corpus, tokenizer, measured=10**7)


def test_a_long_article_is_cut_after_a_sentence_and_fits(corpus: Path, tokenizer, texts) -> None:
    for code in ("ru", "en"):
        write(corpus, code, articles(texts[code], each=100))
    tasks = made(corpus, tokenizer, count=8, maximum_length=1600)[4:]
    assert all(len(render(tokenizer, task).ids) <= 1600 for task in tasks)
    for task in tasks:
        assert len(copied(task)) >= SHORTEST and copied(task).split("\n")[-1] in texts["ru"] + texts["en"]
        assert len(tokenizer(copied(task))["input_ids"]) > (1600 - ROOM) // 2 - 150
    with pytest.raises(DataError, match=r"4 articles are needed for copy tasks, .* 0 can be used"):
        made(corpus, tokenizer, count=8, maximum_length=100)


def test_equal_sentences_are_copied_once(tmp_path: Path, tokenizer) -> None:
    sentence = "Подпишитесь на нашу рассылку, чтобы ничего не пропустить."
    write(tmp_path, "ru", [f"{sentence}\n{'так ' * n}" for n in range(50, 60)])
    with pytest.raises(DataError, match=r"2 sentences are needed for copy tasks, .* 1 can be used"):
        made(tmp_path, tokenizer, count=4)


def test_headings_and_halves_are_no_sentences(tmp_path: Path, tokenizer) -> None:
    sentence = "«Где же он теперь, наш старый профессор?» Так спросил сосед, и никто ему не ответил."
    parts = ["Глава первая, в которой ничего ещё не происходит", sentence, "и на этом она обрывается навсегда, увы."]
    write(tmp_path, "ru", ["\n".join(parts * 5)])
    sentence, _ = made(tmp_path, tokenizer, count=2)
    assert copied(sentence) in (
        "«Где же он теперь, наш старый профессор?»",
        "Так спросил сосед, и никто ему не ответил.",
    )


def test_a_language_by_another_name(texts, tmp_path: Path, tokenizer) -> None:
    write(tmp_path, "news", articles(texts["ru"]))
    tasks = made(tmp_path, tokenizer)
    assert all(task.messages[0].content.split("\n")[0] in INSTRUCTIONS["ru"] for task in tasks)
    write(tmp_path, "fi", ["Vanha professori luki kirjaa kirjastossa ja kirjoitti pitkän kirjeen ystävälleen. " * 6])
    with pytest.raises(DataError, match=r"no words to ask for a copy in 'fi' .*give a corpus without it"):
        made(tmp_path, tokenizer)
