"""Instruction data in the field's formats, as one value: messages of a user and an assistant, with their place.

What a row is, by its keys; all rows of one source are of one format:

    messages              a list of {role, content}; saiga's, too, where the assistant is called `bot`
    conversations         ShareGPT: a list of {from, value}
    prompt, completion    strings, or lists of messages
    instruction, output   Alpaca; `input`, where there is one, follows the instruction after an empty line

A row that is malformed is an error. One that is well formed and cannot be learnt from (an empty answer, a conversation
that ends on the user, roles that do not alternate or are others than these, a low score) is a `Skipped`, to be counted.
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

_ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_FORMATS = (("messages",), ("conversations",), ("prompt", "completion"), ("instruction", "output"))
_PLAIN = (("prompt",), ("instruction",), ("text",))


@dataclass(frozen=True)
class Message:
    """One turn."""

    role: str
    """`system`, `user` or `assistant`."""
    content: str


@dataclass(frozen=True)
class Skipped:
    """A row that is left out."""

    reason: str
    place: str


class Unfit(Exception):
    """Why a well-formed row is left out; never leaves the readers."""


@dataclass(frozen=True)
class Conversation:
    """Messages that alternate between user and assistant, a system message before them or none."""

    messages: tuple[Message, ...]
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""
    first_answer: int = 0
    """Assistant messages from this one on are learnt: all of them, but of `prompt` and `completion` the latter's."""

    @property
    def turns(self) -> list[dict[str, str]]:
        """The messages as chat templates take them."""
        return turns(self.messages)


def turns(messages: Iterable[Message]) -> list[dict[str, str]]:
    """Messages as chat templates take them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def read_conversations(
    records: Iterable[Record], *, source: str, minimum: Mapping[str, float] | None = None
) -> Iterator[Conversation | Skipped]:
    """Conversations that end on the assistant, one a row.

    Args:
        records: rows, as `lep.data.records` reads them.
        source: name of the data.
        minimum: the least value that a row must have in a column, as `{"opus_score": 8}`; lower ones are skipped.

    Raises:
        DataError: names the row that is in no known format or in another than the first, is malformed, or has no number
            in a column of `minimum`.
    """
    first: tuple[tuple[str, ...], str] | None = None
    for record in records:
        keys = _format(record, _FORMATS)
        first = first or (keys, record.place)
        _check_same(keys, record.place, first=first)
        try:
            _check_scores(record, minimum or {})
            before, answers = _split(record, keys)
            messages = check_turns((*before, *answers))
            if messages[-1].role != "assistant":
                raise Unfit("ends on the user")
            kept = len(messages) - len(answers) if keys == ("prompt", "completion") else 0
            yield Conversation(messages, record.place, source, first_answer=kept)
        except Unfit as reason:
            yield Skipped(str(reason), record.place)


def read_prompts(
    records: Iterable[Record], *, source: str, minimum: Mapping[str, float] | None = None
) -> Iterator[Conversation | Skipped]:
    """Conversations that end on the user: what is asked, without the answer that a row may have.

    Beside the formats of conversations, rows with a `prompt`, an `instruction` or a `text` alone are read.

    Args:
        records, source, minimum: as of `read_conversations`.

    Raises:
        DataError: as `read_conversations`.
    """
    first: tuple[tuple[str, ...], str] | None = None
    for record in records:
        keys = _format(record, (*_FORMATS, *_PLAIN))
        first = first or (keys, record.place)
        _check_same(keys, record.place, first=first)
        try:
            _check_scores(record, minimum or {})
            before, answers = _split(record, keys)
            messages = list(before if keys == ("prompt", "completion") else (*before, *answers))
            while messages and messages[-1].role == "assistant":
                messages.pop()
            yield Conversation(check_turns(messages), record.place, source)
        except Unfit as reason:
            yield Skipped(str(reason), record.place)


def sift(found: Iterable[T | Skipped], *, source: str) -> tuple[list[T], list[Skipped]]:
    """What is kept, and what is skipped; `DataError` when nothing is kept."""
    kept: list[T] = []
    skipped: list[Skipped] = []
    for item in found:
        if isinstance(item, Skipped):
            skipped.append(item)
        else:
            kept.append(item)
    if not kept:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in Counter(item.reason for item in skipped).most_common())
        told = f"none of {len(skipped)} rows can be used ({reasons})" if skipped else "holds no rows"
        raise DataError(f"{source}: {told}")
    return kept, skipped


def messages_of(value: object, *, key: str, role: str, place: str) -> tuple[Message, ...]:
    """A string as one message of this role; a list as its messages, but for system messages that say nothing.

    Raises:
        DataError: it is neither.
        Unfit: a role is none that is known, or a message has no text.
    """
    if value is None or isinstance(value, str):
        return (Message(role, value or ""),)
    if not isinstance(value, Sequence) or not all(isinstance(item, Mapping) for item in value):
        raise DataError(f"{place}: {key!r} must be text or a list of messages, found {str(value)[:60]!r}")
    messages = (_message(item, key=key, place=place) for item in value)
    return tuple(message for message in messages if message.content.strip() or message.role != "system")


def check_turns(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The messages, if they are a conversation.

    Raises:
        Unfit: there are none, they do not alternate from a user on, or one is empty.
    """
    spoken = messages[1:] if messages and messages[0].role == "system" else messages
    if not spoken:
        raise Unfit("no question")
    if any(message.role != ("user", "assistant")[i % 2] for i, message in enumerate(spoken)):
        raise Unfit("roles do not alternate")
    for message in messages:
        if not message.content.strip():
            raise Unfit("empty answer" if message.role == "assistant" else "empty question")
        if LONE_SURROGATE.search(message.content):
            raise Unfit("invalid UTF-8")
    return tuple(messages)


def _message(item: Mapping[str, Any], *, key: str, place: str) -> Message:
    said, content = item.get("role", item.get("from")), item.get("content", item.get("value"))
    if not isinstance(said, str):
        raise DataError(f"{place}: a message in {key!r} has no `role` (or `from`); it has: {', '.join(item)}")
    if said.lower() not in _ROLES:
        raise Unfit(f"role {said[:30]!r}")
    if not isinstance(content, str):
        raise Unfit("a message is no text")
    return Message(_ROLES[said.lower()], content)


def _split(record: Record, keys: tuple[str, ...]) -> tuple[tuple[Message, ...], tuple[Message, ...]]:
    """What is given, and what answers it, as far as the format tells them apart."""
    row, place = record.row, record.place
    asked, *answer = keys
    before = messages_of(row[asked], key=asked, role="user", place=place)
    if asked in ("messages", "conversations") and not isinstance(row[asked], list):
        raise DataError(f"{place}: {asked!r} must be a list of messages, found {str(row[asked])[:60]!r}")
    if asked == "instruction" and row.get("input"):
        for key in (asked, "input"):
            if not isinstance(row[key], str | None):
                raise DataError(f"{place}: {key!r} must be text, found {str(row[key])[:60]!r}")
        before = (Message("user", f"{row[asked] or ''}\n\n{row['input']}"),)
    return before, messages_of(row[answer[0]], key=answer[0], role="assistant", place=place) if answer else ()


def _format(record: Record, formats: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    """The keys that tell a row's format; of several, those of which the first holds something."""
    possible = [keys for keys in formats if all(key in record.row for key in keys)]
    if not possible:
        known = "; ".join(" and ".join(keys) for keys in formats)
        raise DataError(f"{record.place}: expected a row with {known}; it has: {', '.join(record.row)}")
    return next((keys for keys in possible if record.row[keys[0]] is not None), possible[0])


def _check_same(keys: tuple[str, ...], place: str, *, first: tuple[tuple[str, ...], str]) -> None:
    if keys != first[0]:
        raise DataError(
            f"{place}: a row with {' and '.join(keys)}, where {first[1]} has {' and '.join(first[0])}; "
            "one source has one format: make two of it"
        )


def _check_scores(record: Record, minimum: Mapping[str, float]) -> None:
    for column, least in minimum.items():
        if column not in record.row:
            raise DataError(f"{record.place}: no column {column!r}; it has: {', '.join(record.row)}")
        score = record.row[column]
        if score is None:
            raise Unfit(f"no {column}")
        if not isinstance(score, int | float):
            raise DataError(f"{record.place}: {column!r} must be a number, found {str(score)[:60]!r}")
        if math.isnan(score):  # what pandas writes for none
            raise Unfit(f"no {column}")
        if score < least:
            raise Unfit(f"{column} below {least:g}")
