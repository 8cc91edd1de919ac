"""Prompt and answers of preferences are separated in every format."""

from __future__ import annotations

from typing import Any

import pytest

from lep.data.conversations import Message, SkippedRow
from lep.data.preferences import LabeledAnswer, Preference, read_labeled_answers, read_preferences
from lep.data.records import Record
from lep.errors import DataError

ASKED, GOOD, BAD = (
    {"role": "user", "content": "2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "assistant", "content": "5"},
)
SILENT = {"role": "system", "content": ""}


def preferences(*rows: dict[str, Any]) -> list[Preference | SkippedRow]:
    return list(read_preferences([Record(row, f"d:{i}") for i, row in enumerate(rows, start=1)], source="d"))


def verdicts(*rows: dict[str, Any]) -> list[LabeledAnswer | SkippedRow]:
    return list(read_labeled_answers([Record(row, f"d:{i}") for i, row in enumerate(rows, start=1)], source="d"))


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"},
        {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
        {"prompt": "2 + 2?", "chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
        {"prompt": [SILENT, ASKED], "chosen": "4", "rejected": "5"},
        {"chosen": [SILENT, ASKED, GOOD], "rejected": [SILENT, ASKED, BAD]},
        {"prompt": [SILENT, ASKED], "chosen": [SILENT, ASKED, GOOD], "rejected": [ASKED, BAD]},
    ],
)
def test_every_format_gives_the_prompt_and_both_answers(row: dict[str, Any]) -> None:
    expected = Preference(
        (Message("user", "2 + 2?"),), (Message("assistant", "4"),), (Message("assistant", "5"),), "d:1", "d"
    )
    assert preferences(row) == [expected]


def test_without_a_prompt_column_the_prompt_is_the_common_prefix() -> None:
    turns = [ASKED, GOOD, {"role": "user", "content": "3 + 3?"}]
    (preference,) = preferences({"chosen": [*turns, GOOD], "rejected": [*turns, BAD]})
    assert isinstance(preference, Preference)
    assert [message.content for message in preference.prompt] == ["2 + 2?", "4", "3 + 3?"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": "4"}, "both answers are the same"),
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": " "}, "empty answer"),
        ({"prompt": [ASKED, GOOD], "chosen": "4", "rejected": "5"}, "no question"),
        ({"chosen": "4", "rejected": "5"}, "no question"),
        ({"prompt": "2 + 2?", "chosen": [GOOD, ASKED], "rejected": "5"}, "ends on the user"),
    ],
)
def test_a_row_that_cannot_be_trained_on_is_skipped(row: dict[str, Any], reason: str) -> None:
    assert preferences(row) == [SkippedRow(reason, "d:1")]


def test_a_labeled_answer() -> None:
    rows = [{"prompt": "2 + 2?", "completion": answer, "label": label} for answer, label in (("4", True), ("", False))]
    good, empty = verdicts(*rows)
    assert isinstance(good, LabeledAnswer) and good.label and good.completion == (Message("assistant", "4"),)
    assert empty == SkippedRow("empty answer", "d:2")


def test_a_malformed_row_is_named() -> None:
    with pytest.raises(DataError, match=r"d:1: the row has no 'rejected'; it has: prompt, chosen"):
        preferences({"prompt": "?", "chosen": "4"})
    with pytest.raises(DataError, match=r"d:1: 'label' must be true or false, found '1'"):
        verdicts({"prompt": "?", "completion": "4", "label": 1})
    with pytest.raises(DataError, match=r"d:1: 'chosen' must be text or a list of messages, found '4'"):
        preferences({"prompt": "?", "chosen": 4, "rejected": "5"})
