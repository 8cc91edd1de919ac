"""Evaluation items are read as they are, or the wrong row is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.data.eval_items import read_eval_items
from lep.errors import DataError

MESSAGES = [{"role": "user", "content": "2 + 2?"}]
ITEM = {"prompt": MESSAGES, "completion": [{"role": "assistant", "content": "4"}], "skill": "sums"}


def test_items_are_read_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps(ITEM) + "\n" + json.dumps(ITEM | {"more": 1}))
    assert read_eval_items(file, required_keys=("skill",)) == [ITEM, ITEM | {"more": 1}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (json.dumps(ITEM) + '\n{"prompt": []}', "items.jsonl:2: the row has no 'completion', 'skill'"),
        (json.dumps(ITEM | {"prompt": "2 + 2?"}), "items.jsonl:1: 'prompt' must be a list of messages"),
        (json.dumps(ITEM | {"completion": []}), "items.jsonl:1: 'completion' must be a list of messages"),
        (json.dumps(ITEM | {"prompt": [{"role": "user"}]}), "items.jsonl:1: 'prompt' must be a list of messages"),
        ("[]", "items.jsonl:1: expected an object"),
        ("{broken", "items.jsonl:1: not JSON"),
        ("", "items.jsonl: holds no rows"),
    ],
)
def test_a_row_that_is_not_an_item_is_named(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "items.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        read_eval_items(tmp_path / "items.jsonl", required_keys=("skill",))
