"""Read instruction data in the common formats as conversations of a user and an assistant.

The keys of a row say which format it has; all rows of one source have the same:

    messages              a list of {role, content}; saiga's, too, which call the assistant `bot`
    conversations         ShareGPT: a list of {from, value}
    prompt, completion    strings, or lists of messages
    instruction, output   Alpaca; `input`, if there is one, follows the instruction after an empty line

A malformed row is an error. A well-formed row that cannot be trained on (an empty answer, a conversation that ends on
the user, roles that are unknown or do not alternate, a low score) is a `SkippedRow`, to be counted.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lep.data.documents import LONE_SURROGATE
from lep.data.records import Record
from lep.errors import DataError

T = TypeVar("T")

_ROLE_ALIASES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_FORMATS = (("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "output"))
_PROMPT_FORMATS = (("prompt",), ("instruction",), ("text",))


@dataclass(frozen=True)
class Message:
    """A message of a conversation."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True)
class SkippedRow:
    """A row that is left out."""

    reason: str
    place: str


class UnusableRowError(Exception):
    """The reason why a well-formed row is left out; the readers catch it."""


@dataclass(frozen=True)
class Conversation:
    """Messages that alternate between user and assistant, with an optional system message before them."""

    messages: tuple[Message, ...]
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""
    first_trained_message: int = 0
    """Assistant messages from this index on are trained: all, or those of the `completion` after a `prompt`."""

    @property
    def chat_messages(self) -> list[dict[str, str]]:
        """Return the messages as chat templates take them."""
        return to_chat_messages(self.messages)


def to_chat_messages(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Return messages as chat templates take them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def read_conversations(
    records: Iterable[Record], *, source: str, min_scores: Mapping[str, float] | None = None
) -> Iterator[Conversation | SkippedRow]:
    """Read conversations that end on the assistant, one from each row.

    Args:
        records: Rows of one format; see `lep.data.records`.
        source: Name of the data.
        min_scores: Minimum of a column, as `{"opus_score": 8}`; rows with a lower value are skipped.

    Yields:
        A conversation, or why the row is skipped.

    Raises:
        DataError: A row has an unknown format or another one than the first row, is malformed, or has no number in a
            column of `min_scores`; the row is named.
    """
    for record, keys in _detect_formats(records, _FORMATS):
        try:
            _check_scores(record, min_scores or {})
            prompt, answer = _split_prompt_and_answer(record, keys)
            messages = check_turns((*prompt, *answer), last_role="assistant")
            first_trained = len(messages) - len(answer) if keys == ("prompt", "completion") else 0
            yield Conversation(messages, record.place, source, first_trained_message=first_trained)
        except UnusableRowError as reason:
            yield SkippedRow(str(reason), record.place)


def read_prompts(
    records: Iterable[Record], *, source: str, min_scores: Mapping[str, float] | None = None
) -> Iterator[Conversation | SkippedRow]:
    """Read conversations that end on the user, without the answers that rows may have.

    Besides the formats of conversations, rows with only a `prompt`, an `instruction` or a `text` are read.

    Args:
        records: Rows of one format; see `lep.data.records`.
        source: Name of the data.
        min_scores: Minimum of a column; rows with a lower value are skipped.

    Yields:
        A conversation, or why the row is skipped.

    Raises:
        DataError: See `read_conversations`.
    """
    for record, keys in _detect_formats(records, (*_FORMATS, *_PROMPT_FORMATS)):
        try:
            _check_scores(record, min_scores or {})
            prompt, answer = _split_prompt_and_answer(record, keys)
            messages = list(prompt if keys == ("prompt", "completion") else (*prompt, *answer))
            while messages and messages[-1].role == "assistant":
                messages.pop()
            yield Conversation(check_turns(messages), record.place, source)
        except UnusableRowError as reason:
            yield SkippedRow(str(reason), record.place)


def partition_skipped(rows: Iterable[T | SkippedRow], *, source: str) -> tuple[list[T], list[SkippedRow]]:
    """Separate usable and skipped rows.

    Args:
        rows: What a reader yields.
        source: Name of the data, for errors.

    Returns:
        Usable rows and skipped rows.

    Raises:
        DataError: No row is usable.
    """
    usable: list[T] = []
    skipped: list[SkippedRow] = []
    for row in rows:
        if isinstance(row, SkippedRow):
            skipped.append(row)
        else:
            usable.append(row)
    if not usable:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in Counter(row.reason for row in skipped).most_common())
        problem = f"none of {len(skipped)} rows can be used ({reasons})" if skipped else "holds no rows"
        raise DataError(f"{source}: {problem}")
    return usable, skipped


def parse_messages(value: object, *, key: str, role: str, place: str) -> tuple[Message, ...]:
    """Parse a string as one message, or a list as its messages, without empty system messages.

    Args:
        value: Of a column.
        key: Name of the column, for errors.
        role: Of the message if the value is a string.
        place: Of the row, for errors.

    Returns:
        The messages.

    Raises:
        DataError: The value is neither text nor a list of messages.
        UnusableRowError: A role is unknown, or a message has no text.
    """
    if value is None or isinstance(value, str):
        return (Message(role, value or ""),)
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise DataError(f"{place}: {key!r} must be text or a list of messages, found {str(value)[:60]!r}")
    messages = (_parse_message(item, key=key, place=place) for item in value)
    return tuple(message for message in messages if message.content.strip() or message.role != "system")


def check_turns(messages: Sequence[Message], *, last_role: str | None = None) -> tuple[Message, ...]:
    """Check that messages are a conversation.

    Args:
        messages: An optional system message and the turns.
        last_role: Role of the last message; None: either.

    Returns:
        The messages.

    Raises:
        UnusableRowError: There is no turn, the turns do not alternate from a user on, a message is empty or not valid
            Unicode, or the last one has another role.
    """
    turns = messages[1:] if messages and messages[0].role == "system" else messages
    if not turns:
        raise UnusableRowError("no question")
    if any(message.role != ("user", "assistant")[i % 2] for i, message in enumerate(turns)):
        raise UnusableRowError("roles do not alternate")
    for message in messages:
        if not message.content.strip():
            raise UnusableRowError("empty answer" if message.role == "assistant" else "empty question")
        if LONE_SURROGATE.search(message.content):
            raise UnusableRowError("invalid UTF-8")
    if last_role and messages[-1].role != last_role:
        raise UnusableRowError(f"ends on the {messages[-1].role}")
    return tuple(messages)


def _parse_message(item: Mapping[str, Any], *, key: str, place: str) -> Message:
    role, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(role, str):
        raise DataError(f"{place}: a message in {key!r} has no `role` (or `from`); it has: {', '.join(item)}")
    if role.lower() not in _ROLE_ALIASES:
        raise UnusableRowError(f"role {role[:30]!r}")
    if not isinstance(content, str):
        raise UnusableRowError("a message is no text")
    return Message(_ROLE_ALIASES[role.lower()], content)


def _split_prompt_and_answer(record: Record, keys: tuple[str, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """Parse the messages of a row; all are in the prompt if the format does not separate prompt and answer."""
    row, place = record.row, record.place
    prompt_key, *answer_keys = keys
    prompt = parse_messages(row[prompt_key], key=prompt_key, role="user", place=place)
    if prompt_key in ("messages", "conversations") and not isinstance(row[prompt_key], list):
        raise DataError(f"{place}: {prompt_key!r} must be a list of messages, found {str(row[prompt_key])[:60]!r}")
    if prompt_key == "instruction" and row.get("input"):
        for key in (prompt_key, "input"):
            if not isinstance(row[key], str | None):
                raise DataError(f"{place}: {key!r} must be text, found {str(row[key])[:60]!r}")
        prompt = (Message("user", f"{row[prompt_key] or ''}\n\n{row['input']}"),)
    if not answer_keys:
        return prompt, ()
    return prompt, parse_messages(row[answer_keys[0]], key=answer_keys[0], role="assistant", place=place)


def _detect_formats(
    records: Iterable[Record], formats: Iterable[tuple[str, ...]]
) -> Iterator[tuple[Record, tuple[str, ...]]]:
    """Yield each row with the keys of its format, which must be that of the first row."""
    first: tuple[tuple[str, ...], str] | None = None
    for record in records:
        keys = _detect_format(record, formats)
        first = first or (keys, record.place)
        if keys != first[0]:
            raise DataError(
                f"{record.place}: a row with {' and '.join(keys)}, where {first[1]} has {' and '.join(first[0])}; "
                "one source has one format: make two of it"
            )
        yield record, keys


def _detect_format(record: Record, formats: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the keys of a row's format; if several are possible, the first whose first column is not empty."""
    possible = [keys for keys in formats if all(key in record.row for key in keys)]
    if not possible:
        known = "; ".join(" and ".join(keys) for keys in formats)
        raise DataError(f"{record.place}: expected a row with {known}; it has: {', '.join(record.row)}")
    return next((keys for keys in possible if record.row[keys[0]] is not None), possible[0])


def _check_scores(record: Record, min_scores: Mapping[str, float]) -> None:
    for column, min_score in min_scores.items():
        if column not in record.row:
            raise DataError(f"{record.place}: no column {column!r}; it has: {', '.join(record.row)}")
        score = record.row[column]
        if score is None:
            raise UnusableRowError(f"no {column}")
        if not isinstance(score, int | float):
            raise DataError(f"{record.place}: {column!r} must be a number, found {str(score)[:60]!r}")
        if math.isnan(score):  # pandas writes NaN for a missing value
            raise UnusableRowError(f"no {column}")
        if score < min_score:
            raise UnusableRowError(f"{column} below {min_score:g}")
