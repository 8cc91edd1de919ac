"""Every format gives the same messages; rows that cannot be trained on are skipped with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from lep.data.conversations import (
    Conversation,
    Message,
    SkippedRow,
    partition_skipped,
    read_conversations,
    read_prompts,
)
from lep.data.records import Record
from lep.errors import DataError

QUESTION, ANSWER = Message("user", "2 + 2?"), Message("assistant", "Четыре.")
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


def read(*rows: dict[str, Any], **options: Any) -> list[Conversation | SkippedRow]:
    return list(read_conversations(records(*rows), source="data", **options))


def read_as_prompts(*rows: dict[str, Any], **options: Any) -> list[Conversation | SkippedRow]:
    return list(read_prompts(records(*rows), source="data", **options))


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_messages(name: str) -> None:
    (conversation,) = read(FORMATS[name])
    assert isinstance(conversation, Conversation)
    assert conversation.messages == (QUESTION, ANSWER) and conversation.chat_messages == CHAT
    assert (conversation.place, conversation.source) == ("data.jsonl:1", "data")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_prompt(name: str) -> None:
    (conversation,) = read_as_prompts(FORMATS[name])
    assert isinstance(conversation, Conversation) and conversation.messages == (QUESTION,)


@pytest.mark.parametrize("key", ["prompt", "instruction", "text"])
def test_prompts_may_have_no_answer_column(key: str) -> None:
    (conversation,) = read_as_prompts({key: "2 + 2?"})
    assert isinstance(conversation, Conversation) and conversation.messages == (QUESTION,)


def test_a_prompt_needs_no_answer() -> None:
    rows = [FORMATS["strings"], {"prompt": "2 + 2?", "completion": None}]
    conversations = read_as_prompts(*rows)
    assert [item.messages for item in conversations if isinstance(item, Conversation)] == [(QUESTION,), (QUESTION,)]


def test_a_prompt_of_many_turns_ends_on_the_user() -> None:
    row = {"messages": [*CHAT, {"role": "user", "content": "And 3 + 3?"}]}
    (conversation,) = read_as_prompts(row)
    assert isinstance(conversation, Conversation) and conversation.chat_messages == row["messages"]


def test_an_input_follows_its_instruction() -> None:
    (conversation,) = read({"instruction": "Translate.", "input": "кот", "output": "cat"})
    assert isinstance(conversation, Conversation) and conversation.messages[0].content == "Translate.\n\nкот"
    for instruction in ([], CHAT):
        with pytest.raises(DataError, match=r"data.jsonl:1: 'instruction' must be text, found "):
            read({"instruction": instruction, "input": "кот", "output": "cat"})


def test_only_a_completion_is_trained() -> None:
    turns = [*CHAT, *CHAT]
    joined, separated = read({"messages": turns}), read({"prompt": turns[:3], "completion": turns[3:]})
    assert [row.first_trained_message for row in (*joined, *separated) if isinstance(row, Conversation)] == [0, 3]


def test_a_system_message_comes_first_or_is_empty() -> None:
    system_message = {"role": "system", "content": "Be brief."}
    first, empty, late = read(
        {"messages": [system_message, *CHAT]},
        {"messages": [{**system_message, "content": " "}, *CHAT]},
        {"messages": [*CHAT, system_message, *CHAT]},
    )
    assert isinstance(first, Conversation) and first.messages == (SYSTEM, QUESTION, ANSWER)
    assert isinstance(empty, Conversation) and empty.messages == (QUESTION, ANSWER)
    assert late == SkippedRow("roles do not alternate", "data.jsonl:3")


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
def test_a_row_that_cannot_be_trained_on_is_skipped(messages: list[dict[str, Any]], reason: str) -> None:
    assert read({"messages": CHAT}, {"messages": messages})[1] == SkippedRow(reason, "data.jsonl:2")


def test_an_answer_that_is_null_is_empty() -> None:
    assert read({"prompt": "2 + 2?", "completion": None}) == [SkippedRow("empty answer", "data.jsonl:1")]


def test_a_format_with_empty_columns_is_ignored() -> None:
    (conversation,) = read({"messages": None, "instruction": "2 + 2?", "output": "Четыре."})
    assert isinstance(conversation, Conversation) and conversation.messages == (QUESTION, ANSWER)


def test_low_scores_are_skipped() -> None:
    good = FORMATS["saiga"]
    rows = [good, *(good | {"opus_score": score} for score in (7, None, float("nan")))]
    reasons = ["opus_score below 8", "no opus_score", "no opus_score"]
    for rows_read in (
        read(*rows, min_scores={"opus_score": 8.0}),
        read_as_prompts(*rows, min_scores={"opus_score": 8.0}),
    ):
        assert isinstance(rows_read[0], Conversation)
        assert [other.reason for other in rows_read[1:] if isinstance(other, SkippedRow)] == reasons
    with pytest.raises(DataError, match=r"data.jsonl:1: 'opus_score' must be a number, found 'high'"):
        read(good | {"opus_score": "high"}, min_scores={"opus_score": 8.0})
    with pytest.raises(DataError, match=r"data.jsonl:1: no column 'score'; it has: messages, opus_score"):
        read(good, min_scores={"score": 8.0})


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


def test_usable_and_skipped_rows_are_separated() -> None:
    usable, skipped = partition_skipped(read({"messages": CHAT}, {"messages": CHAT[:1]}), source="data")
    assert [item.place for item in usable] == ["data.jsonl:1"] and skipped[0].reason == "ends on the user"
    with pytest.raises(DataError, match=r"data: none of 2 rows can be used \(ends on the user: 2\)"):
        partition_skipped(read({"messages": CHAT[:1]}, {"messages": CHAT[:1]}), source="data")
    with pytest.raises(DataError, match=r"data: holds no rows"):
        partition_skipped(read(), source="data")
