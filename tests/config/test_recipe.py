"""A recipe's file: what it extends, and what it changes."""

from __future__ import annotations

from pathlib import Path

import pytest

from lep.config.recipe import override, read_recipe
from lep.errors import UsageError


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


def test_a_recipe_takes_over_what_it_does_not_say(write) -> None:
    write("first.yaml", "out: x\ncollect: {seed: 1}\npretrain: {lr: 1, mixture: {ru: 9, en: 1}}\ntune: {lr: 2}")
    write("more/second.yaml", "extends: ../first.yaml\npretrain: {mixture: {ru: 1}}\nreport: {title: x}")
    third = write("third.yaml", "extends: more/second.yaml\ncollect: {seed: null}")
    assert list(read_recipe(third).items()) == [
        ("collect", {"seed": None}),
        ("pretrain", {"lr": 1, "mixture": {"ru": 1}}),
        ("tune", {"lr": 2}),
        ("report", {"title": "x"}),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: other.yaml", "leads back to itself"),
        ("extends: [a.yaml]", "expected the name of another recipe, found ['a.yaml']"),
        ("extends: absent.yaml", "absent.yaml: is not there; expected a recipe"),
        ("- collect", "expected rooms and their settings"),
    ],
)
def test_what_cannot_be_extended_is_named(write, text, words) -> None:
    write("other.yaml", "extends: recipe.yaml")
    with pytest.raises(UsageError) as caught:
        read_recipe(write("recipe.yaml", text))
    assert words in str(caught.value)


def test_the_command_changes_what_was_taken_over(write) -> None:
    write("first.yaml", "pretrain: {lr: 1}")
    raw = read_recipe(write("second.yaml", "extends: first.yaml"))
    override(raw, "pretrain.lr=3")
    assert raw == {"pretrain": {"lr": 3}}
