"""Read preference data: pairs of a chosen and a rejected answer (DPO), or answers labeled good or bad (KTO)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from lep.data.conversations import Message, SkippedRow, UnusableRowError, check_turns, parse_messages
from lep.data.records import Record
from lep.errors import DataError


@dataclass(frozen=True)
class Preference:
    """A prompt with a chosen and a rejected answer."""

    prompt: tuple[Message, ...]
    """Ends on the user."""
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""


@dataclass(frozen=True)
class LabeledAnswer:
    """A prompt with an answer and its label."""

    prompt: tuple[Message, ...]
    """Ends on the user."""
    completion: tuple[Message, ...]
    label: bool
    """True: a good answer."""
    place: str
    """`file:row`."""
    source: str
    """Name of the data that it is from."""


def read_preferences(records: Iterable[Record], *, source: str) -> Iterator[Preference | SkippedRow]:
    """Read rows with `chosen` and `rejected`, each text or a list of messages, as DPO takes them.

    `prompt` is text or messages; the lists may begin with it. Without a `prompt`, it is what both lists begin with.

    Args:
        records: See `lep.data.records`.
        source: Name of the data.

    Yields:
        A preference, or why the row is skipped.

    Raises:
        DataError: A key is missing, or its value has another type; the row is named.
    """
    for record in records:
        _check_keys(record, ("chosen", "rejected"))
        try:
            chosen, rejected = (_parse_column(record, key, role="assistant") for key in ("chosen", "rejected"))
            if record.row.get("prompt") is None:
                prompt = check_turns(_find_common_prompt(chosen, rejected))
            else:
                prompt = check_turns(_parse_column(record, "prompt", role="user"))
            chosen, rejected = (_extract_answer(prompt, answer) for answer in (chosen, rejected))
            if chosen == rejected:
                yield SkippedRow("both answers are the same", record.place)
            else:
                yield Preference(prompt, chosen, rejected, record.place, source)
        except UnusableRowError as reason:
            yield SkippedRow(str(reason), record.place)


def read_labeled_answers(records: Iterable[Record], *, source: str) -> Iterator[LabeledAnswer | SkippedRow]:
    """Read rows with `prompt`, `completion` (text or messages) and `label` (true: good), as KTO takes them.

    Args:
        records: See `lep.data.records`.
        source: Name of the data.

    Yields:
        A labeled answer, or why the row is skipped.

    Raises:
        DataError: A key is missing, or its value has another type; the row is named.
    """
    for record in records:
        _check_keys(record, ("prompt", "completion", "label"))
        label = record.row["label"]
        if not isinstance(label, bool):
            raise DataError(f"{record.place}: 'label' must be true or false, found {str(label)[:60]!r}")
        try:
            prompt = check_turns(_parse_column(record, "prompt", role="user"))
            completion = _extract_answer(prompt, _parse_column(record, "completion", role="assistant"))
            yield LabeledAnswer(prompt, completion, label, record.place, source)
        except UnusableRowError as reason:
            yield SkippedRow(str(reason), record.place)


def _check_keys(record: Record, keys: Sequence[str]) -> None:
    if missing := [key for key in keys if key not in record.row]:
        raise DataError(
            f"{record.place}: the row has no {' and '.join(map(repr, missing))}; it has: {', '.join(record.row)}"
        )


def _parse_column(record: Record, key: str, *, role: str) -> tuple[Message, ...]:
    return parse_messages(record.row[key], key=key, role=role, place=record.place)


def _find_common_prompt(first: Sequence[Message], second: Sequence[Message]) -> tuple[Message, ...]:
    """Return the messages that two conversations begin with, up to the last user message among them."""
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    while length and first[length - 1].role != "user":
        length -= 1
    return tuple(first[:length])


def _extract_answer(prompt: tuple[Message, ...], messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the messages after the prompt, which must end on the assistant."""
    repeats_prompt = len(messages) > len(prompt) and messages[: len(prompt)] == prompt
    answer = messages[len(prompt) :] if repeats_prompt else messages
    if prompt[-1].role != "user":
        raise UnusableRowError("no question")
    check_turns((*prompt, *answer), last_role="assistant")
    return answer
