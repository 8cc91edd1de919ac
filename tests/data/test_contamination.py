"""Texts of an evaluation are found in training data; similar texts are not."""

from __future__ import annotations

from lep.data.contamination import Contamination, find_contamination
from lep.data.conversations import Conversation, Message

LONG = (
    "Старый профессор внимательно прочитал удивительную историю в библиотеке рядом с университетом перед самым "
    "рассветом, а потом наконец увидел на берегу моря государственный документ."
)
RULES = "Read the question below with care, then answer it with one word and with nothing else before or after it: "


def make_conversations(*contents: str) -> list[Conversation]:
    return [
        Conversation((Message("user", content), Message("assistant", "Да.")), f"d:{number}", "d")
        for number, content in enumerate(contents, start=1)
    ]


def test_a_long_text_inside_a_message_is_found() -> None:
    inside = f"Перескажи: «{LONG.upper().replace(',', ' —')}» Спасибо."
    assert find_contamination(make_conversations("Кто это?", inside), {"items": ["Who?", LONG]}) == [
        Contamination("items", 2, "d:2", 1.0)
    ]


def test_half_of_a_long_text_is_enough_and_less_is_not() -> None:
    words = LONG.split()
    (contamination,) = find_contamination(make_conversations(" ".join(words[:18])), {"items": [LONG]})
    assert contamination.matched_fraction == 6 / (len(words) - 12) >= 0.5
    assert not find_contamination(make_conversations(" ".join(words[:15])), {"items": [LONG]})


def test_a_short_text_is_found_as_a_whole_message_only() -> None:
    items = {"items": ["Сколько будет 2 + 2?"]}
    assert [
        contamination.place for contamination in find_contamination(make_conversations("сколько  будет 2+2"), items)
    ] == ["d:1"]
    assert not find_contamination(make_conversations("Скажи, сколько будет 2 + 2?"), items)


def test_instructions_that_all_texts_share_do_not_count() -> None:
    items = {"items": [RULES + "what colour is grass in early summer?", RULES + "what is the capital of France now?"]}
    assert not find_contamination(make_conversations(RULES + "how many legs has a spider?"), items)
    (contamination,) = find_contamination(make_conversations(items["items"][1]), items)
    assert contamination.text_number == 2


def test_answers_count_and_empty_texts_do_not() -> None:
    conversation = Conversation((Message("user", "?"), Message("assistant", LONG)), "d:1", "d")
    assert find_contamination([conversation], {"a": [LONG, ""], "b": ["!", LONG]}) == [
        Contamination("a", 1, "d:1", 1.0),
        Contamination("b", 2, "d:1", 1.0),
    ]
