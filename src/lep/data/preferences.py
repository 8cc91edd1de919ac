"""Preference data: of two answers the better one, or of one whether it is good."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lep.data.conversations import Message, Skipped, Unfit, check_turns, messages_of
from lep.data.records import Record
from lep.errors import DataError


@dataclass(frozen=True)
class Preference:
    """What is asked, and two answers."""

    prompt: tuple[Message, ...]
    """Ends on the user."""
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""


@dataclass(frozen=True)
class Verdict:
    """What is asked, an answer, and whether it is good."""

    prompt: tuple[Message, ...]
    """Ends on the user."""
    completion: tuple[Message, ...]
    good: bool
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""


def read_preferences(records: Iterable[Record], *, source: str) -> Iterator[Preference | Skipped]:
    """Rows with `chosen` and `rejected`, as DPO takes them, each text or a list of messages.

    `prompt` is text or messages; lists may begin with it. Without it, it is what both lists begin with.

    Raises:
        DataError: names the row where a key is missing or holds something else.
    """
    for record in records:
        _check_keys(record, ("chosen", "rejected"))
        try:
            chosen, rejected = (_messages(record, key, role="assistant") for key in ("chosen", "rejected"))
            if record.row.get("prompt") is None:
                prompt = check_turns(_common(chosen, rejected))
            else:
                prompt = check_turns(_messages(record, "prompt", role="user"))
            chosen, rejected = (_answer(prompt, answer) for answer in (chosen, rejected))
            if chosen == rejected:
                raise Unfit("both answers are the same")
            yield Preference(prompt, chosen, rejected, record.place, source)
        except Unfit as reason:
            yield Skipped(str(reason), record.place)


def read_verdicts(records: Iterable[Record], *, source: str) -> Iterator[Verdict | Skipped]:
    """Rows with `prompt`, `completion` (text or messages) and `label` (true: good), as KTO takes them.

    Raises:
        DataError: names the row where a key is missing or holds something else.
    """
    for record in records:
        _check_keys(record, ("prompt", "completion", "label"))
        label = record.row["label"]
        if not isinstance(label, bool):
            raise DataError(f"{record.place}: 'label' must be true or false, found {str(label)[:60]!r}")
        try:
            prompt = check_turns(_messages(record, "prompt", role="user"))
            completion = _answer(prompt, _messages(record, "completion", role="assistant"))
            yield Verdict(prompt, completion, label, record.place, source)
        except Unfit as reason:
            yield Skipped(str(reason), record.place)


def _check_keys(record: Record, keys: Sequence[str]) -> None:
    if absent := [key for key in keys if key not in record.row]:
        raise DataError(
            f"{record.place}: the row has no {' and '.join(map(repr, absent))}; it has: {', '.join(record.row)}"
        )


def _messages(record: Record, key: str, *, role: str) -> tuple[Message, ...]:
    return messages_of(record.row[key], key=key, role=role, place=record.place)


def _common(one: Sequence[Message], other: Sequence[Message]) -> tuple[Message, ...]:
    """What two conversations begin with, up to the last user message in it."""
    same = 0
    while same < min(len(one), len(other)) and one[same] == other[same]:
        same += 1
    while same and one[same - 1].role != "user":
        same -= 1
    return tuple(one[:same])


def _answer(prompt: tuple[Message, ...], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages after the prompt; `Unfit` when both together are no conversation that ends on the assistant."""
    repeats = len(messages) > len(prompt) and messages[: len(prompt)] == prompt
    answer = messages[len(prompt) :] if repeats else messages
    if prompt[-1].role != "user":
        raise Unfit("no question")
    if check_turns((*prompt, *answer))[-1].role != "assistant":
        raise Unfit("ends on the user")
    return answer
