"""Copy tasks are held-out sentences and articles with an instruction in their language."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lep.data.chat_template import tokenize_conversation
from lep.data.conversations import Conversation
from lep.data.copy_tasks import (
    INSTRUCTIONS,
    MIN_ARTICLE_LENGTH,
    RESERVED_TOKENS,
    SENTENCE_LENGTH_RANGE,
    build_copy_tasks,
)
from lep.data.corpus import read_heldout_excerpt
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


def build(corpus: Path, tokenizer: Any, *, count: int = 16, **options: Any) -> list[Conversation]:
    return build_copy_tasks(
        corpus, count=count, tokenizer=tokenizer, **{"max_length": 4096, "seed": 0, "evaluated_characters": 0} | options
    )


def get_copied_text(task: Conversation) -> str:
    return task.messages[1].content


def test_languages_in_turn_half_sentences_half_articles(corpus: Path, tokenizer, texts) -> None:
    tasks = build(corpus, tokenizer, count=17)
    assert len({get_copied_text(task) for task in tasks}) == 17
    codes = [task.place.split(":")[1] for task in tasks]
    assert codes == ["en", "ru"] * 4 + ["en", "ru"] * 4 + ["en"]
    for code, task in zip(codes, tasks, strict=True):
        instruction, text = task.messages[0].content.split("\n\n")
        assert instruction in INSTRUCTIONS[code] and text == get_copied_text(task)
        assert text in texts[code] or text in articles(texts[code])
    lengths = [len(get_copied_text(task)) for task in tasks]
    assert max(lengths[:8]) <= SENTENCE_LENGTH_RANGE[1] and min(lengths[8:]) >= MIN_ARTICLE_LENGTH


def test_a_language_without_texts_left_is_passed_over(corpus: Path, tokenizer, texts) -> None:
    write(corpus, "en", articles(texts["en"])[:2])
    codes = [task.place.split(":")[1] for task in build(corpus, tokenizer)]
    assert codes == (["en", "ru"] * 2 + ["ru"] * 4) * 2


def test_the_same_seed_gives_the_same_whatever_the_order(corpus: Path, tokenizer, texts) -> None:
    first, other = build(corpus, tokenizer), build(corpus, tokenizer, seed=1)
    for language in ("ru", "en"):
        write(corpus, language, articles(texts[language])[::-1])
    assert build(corpus, tokenizer) == first != other


def test_evaluated_texts_are_not_used(corpus: Path, tokenizer) -> None:
    measured = "\n".join(
        text for code in ("ru", "en") for text in read_heldout_excerpt(corpus, code, max_characters=40_000)
    )
    tasks = build(corpus, tokenizer, count=40, evaluated_characters=40_000)
    assert not any(get_copied_text(task) in measured for task in tasks[20:])
    with pytest.raises(DataError, match=r"8 sentences are needed .* gives 0; hold out more text"):
        build(corpus, tokenizer, evaluated_characters=10**7)


def test_a_long_article_is_cut_after_a_sentence_and_fits(corpus: Path, tokenizer, texts) -> None:
    for code in ("ru", "en"):
        write(corpus, code, articles(texts[code], each=100))
    tasks = build(corpus, tokenizer, count=8, max_length=1600)[4:]
    assert all(len(tokenize_conversation(tokenizer, task).input_ids) <= 1600 for task in tasks)
    for task in tasks:
        assert (
            len(get_copied_text(task)) >= MIN_ARTICLE_LENGTH
            and get_copied_text(task).split("\n")[-1] in texts["ru"] + texts["en"]
        )
        assert len(tokenizer(get_copied_text(task))["input_ids"]) > (1600 - RESERVED_TOKENS) // 2 - 150
    with pytest.raises(DataError, match=r"4 articles are needed for copy tasks, .* gives 0"):
        build(corpus, tokenizer, count=8, max_length=100)


def test_equal_sentences_are_copied_once(tmp_path: Path, tokenizer) -> None:
    sentence = "Подпишитесь на нашу рассылку, чтобы ничего не пропустить."
    write(tmp_path, "ru", [f"{sentence}\n{'так ' * n}" for n in range(50, 60)])
    with pytest.raises(DataError, match=r"2 sentences are needed for copy tasks, .* gives 1"):
        build(tmp_path, tokenizer, count=4)


def test_headings_and_halves_are_no_sentences(tmp_path: Path, tokenizer) -> None:
    sentence = "«Где же он теперь, наш старый профессор?» Так спросил сосед, и никто ему не ответил."
    parts = ["Глава первая, в которой ничего ещё не происходит", sentence, "и на этом она обрывается навсегда, увы."]
    write(tmp_path, "ru", ["\n".join(parts * 5)])
    sentence, _ = build(tmp_path, tokenizer, count=2)
    assert get_copied_text(sentence) in (
        "«Где же он теперь, наш старый профессор?»",
        "Так спросил сосед, и никто ему не ответил.",
    )


def test_a_language_with_an_unknown_name_is_identified(texts, tmp_path: Path, tokenizer) -> None:
    write(tmp_path, "news", articles(texts["ru"]))
    tasks = build(tmp_path, tokenizer)
    assert all(task.messages[0].content.split("\n")[0] in INSTRUCTIONS["ru"] for task in tasks)
    write(tmp_path, "fi", ["Vanha professori luki kirjaa kirjastossa ja kirjoitti pitkän kirjeen ystävälleen. " * 6])
    with pytest.raises(DataError, match=r"no instruction for 'fi' .*give a corpus without it"):
        build(tmp_path, tokenizer)
