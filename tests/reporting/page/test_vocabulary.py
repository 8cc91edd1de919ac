"""Tokens and checks as the page shows them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lep.reporting.page.vocabulary import TokenFragment, split_token, summarize_vocabularies
from lep.reporting.run_data import load_run_data


@pytest.mark.parametrize(
    ("token", "fragments"),
    [
        (" на", [TokenFragment("·на")]),
        ("\n", [TokenFragment("↵")]),
        ("", [TokenFragment("∅")]),
        ("ок", [TokenFragment("ок")]),
        (r"о\xd0\xba", [TokenFragment("о"), TokenFragment(byte_hex="d0"), TokenFragment(byte_hex="ba")]),
    ],
)
def test_white_space_is_visible_and_bytes_are_digits(token: str, fragments: list[TokenFragment]) -> None:
    assert split_token(token) == fragments


def test_only_required_checks_are_shown_and_a_failed_one_is_marked(run: Path) -> None:
    file = run.parent / "retokenize" / "manifest.json"
    manifest = json.loads(file.read_text())
    reachable, old_ids, *_ = manifest["result"]["checks"]
    manifest["result"]["checks"] = [reachable | {"passed": 2999}, old_ids | {"required": False}]
    file.write_text(json.dumps(manifest))
    (vocabulary,) = summarize_vocabularies(load_run_data(run))
    assert vocabulary.checks == ((False, "2,999 of 3,000 new tokens can be produced from their own bytes"),)
    assert vocabulary.max_characters_per_token == 4.2
