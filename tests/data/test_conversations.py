"""Every format of instruction data gives the same messages; what cannot be learnt from is told, with its row."""

from __future__ import annotations

from typing import Any

import pytest

from lep.data.conversations import Conversation, Message, Skipped, read_conversations, read_prompts, sift
from lep.data.records import Record
from lep.errors import DataError

ASKED, ANSWERED = Message("user", "2 + 2?"), Message("assistant", "Четыре.")
SYSTEM = Message("system", "Be brief.")
CHAT = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "Четыре."}]
FORMATS: dict[str, dict[str, Any]] = {
    "messages": {"messages": CHAT},
    "saiga": {"messages": [CHAT[0], {"role": "bot", "content": "Четыре."}], "opus_score": 9},
    "ShareGPT": {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "Четыре."}]},
    "strings": {"prompt": "2 + 2?", "completion": "Четыре."},
    "lists": {"prompt": CHAT[:1], "completion": CHAT[1:]},
    "Alpaca": {"instruction": "2 + 2?", "input": "", "output": "Четыре."},
}


def records(*rows: dict[str, Any]) -> list[Record]:
    return [Record(row, f"data.jsonl:{number}") for number, row in enumerate(rows, start=1)]


def read(*rows: dict[str, Any], **more: Any) -> list[Conversation | Skipped]:
    return list(read_conversations(records(*rows), source="data", **more))


def asked(*rows: dict[str, Any], **more: Any) -> list[Conversation | Skipped]:
    return list(read_prompts(records(*rows), source="data", **more))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_messages(name: str) -> None:
    (found,) = read(FORMATS[name])
    assert isinstance(found, Conversation)
    assert found.messages == (ASKED, ANSWERED) and found.turns == CHAT
    assert (found.place, found.source) == ("data.jsonl:1", "data")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_what_is_asked(name: str) -> None:
    (found,) = asked(FORMATS[name])
    assert isinstance(found, Conversation) and found.messages == (ASKED,)


@pytest.mark.parametrize("key", ["prompt", "instruction", "text"])
def test_prompts_may_stand_alone(key: str) -> None:
    (found,) = asked({key: "2 + 2?"})
    assert isinstance(found, Conversation) and found.messages == (ASKED,)


def test_a_prompt_needs_no_answer() -> None:
    rows = [FORMATS["strings"], {"prompt": "2 + 2?", "completion": None}]
    found = asked(*rows)
    assert [item.messages for item in found if isinstance(item, Conversation)] == [(ASKED,), (ASKED,)]


def test_a_prompt_of_many_turns_ends_on_the_user() -> None:
    row = {"messages": [*CHAT, {"role": "user", "content": "And 3 + 3?"}]}
    (found,) = asked(row)
    assert isinstance(found, Conversation) and found.turns == row["messages"]


def test_an_input_follows_its_instruction() -> None:
    (found,) = read({"instruction": "Translate.", "input": "кот", "output": "cat"})
    assert isinstance(found, Conversation) and found.messages[0].content == "Translate.\n\nкот"
    for instruction in ([], CHAT):
        with pytest.raises(DataError, match=r"data.jsonl:1: 'instruction' must be text, found "):
            read({"instruction": instruction, "input": "кот", "output": "cat"})


def test_which_answers_are_learnt() -> None:
    many = [*CHAT, *CHAT]
    whole, parted = read({"messages": many}), read({"prompt": many[:3], "completion": many[3:]})
    assert [found.first_answer for found in (*whole, *parted) if isinstance(found, Conversation)] == [0, 3]


def test_a_system_message_stands_first_or_says_nothing() -> None:
    said = {"role": "system", "content": "Be brief."}
    first, empty, late = read(
        {"messages": [said, *CHAT]}, {"messages": [{**said, "content": " "}, *CHAT]}, {"messages": [*CHAT, said, *CHAT]}
    )
    assert isinstance(first, Conversation) and first.messages == (SYSTEM, ASKED, ANSWERED)
    assert isinstance(empty, Conversation) and empty.messages == (ASKED, ANSWERED)
    assert late == Skipped("roles do not alternate", "data.jsonl:3")


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([CHAT[0], {"role": "assistant", "content": " \n"}], "empty answer"),
        ([{"role": "user", "content": ""}, CHAT[1]], "empty question"),
        (CHAT[:1], "ends on the user"),
        ([*CHAT, CHAT[0]], "ends on the user"),
        ([CHAT[0], *CHAT], "roles do not alternate"),
        (CHAT[1:], "roles do not alternate"),
        ([], "no question"),
        ([CHAT[0], {"role": "tool", "content": "4"}, CHAT[1]], "role 'tool'"),
        ([CHAT[0], {"role": "assistant", "content": None}], "a message is no text"),
        ([CHAT[0], {"role": "assistant", "content": "\ud83d"}], "invalid UTF-8"),
    ],
)
def test_what_cannot_be_learnt_from_is_skipped(messages: list[dict[str, Any]], reason: str) -> None:
    assert read({"messages": CHAT}, {"messages": messages})[1] == Skipped(reason, "data.jsonl:2")


def test_an_answer_that_is_null_is_empty() -> None:
    assert read({"prompt": "2 + 2?", "completion": None}) == [Skipped("empty answer", "data.jsonl:1")]


def test_the_format_of_columns_that_hold_nothing_does_not_count() -> None:
    (found,) = read({"messages": None, "instruction": "2 + 2?", "output": "Четыре."})
    assert isinstance(found, Conversation) and found.messages == (ASKED, ANSWERED)


def test_low_scores_are_skipped() -> None:
    good = FORMATS["saiga"]
    rows = [good, *(good | {"opus_score": score} for score in (7, None, float("nan")))]
    reasons = ["opus_score below 8", "no opus_score", "no opus_score"]
    for found in (read(*rows, minimum={"opus_score": 8}), asked(*rows, minimum={"opus_score": 8})):
        assert isinstance(found[0], Conversation)
        assert [other.reason for other in found[1:] if isinstance(other, Skipped)] == reasons
    with pytest.raises(DataError, match=r"data.jsonl:1: 'opus_score' must be a number, found 'high'"):
        read(good | {"opus_score": "high"}, minimum={"opus_score": 8})
    with pytest.raises(DataError, match=r"data.jsonl:1: no column 'score'; it has: messages, opus_score"):
        read(good, minimum={"score": 8})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "?"}, "data.jsonl:2: expected a row with messages; .* it has: question"),
        (FORMATS["Alpaca"], "data.jsonl:2: a row with instruction and output, where data.jsonl:1 has messages"),
        ({"messages": "hi"}, "data.jsonl:2: 'messages' must be a list of messages, found 'hi'"),
        ({"messages": ["hi"]}, "data.jsonl:2: 'messages' must be text or a list of messages"),
        ({"messages": [{"content": "hi"}]}, "data.jsonl:2: a message in 'messages' has no `role`"),
    ],
)
def test_a_malformed_row_is_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read({"messages": CHAT}, row)


def test_what_is_kept_and_what_is_not() -> None:
    kept, skipped = sift(read({"messages": CHAT}, {"messages": CHAT[:1]}), source="data")
    assert [item.place for item in kept] == ["data.jsonl:1"] and skipped[0].reason == "ends on the user"
    with pytest.raises(DataError, match=r"data: none of 2 rows can be used \(ends on the user: 2\)"):
        sift(read({"messages": CHAT[:1]}, {"messages": CHAT[:1]}), source="data")
    with pytest.raises(DataError, match=r"data: holds no rows"):
        sift(read(), source="data")
