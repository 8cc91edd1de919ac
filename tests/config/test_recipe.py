"""A recipe's file: what it inherits, and what overrides change."""

from __future__ import annotations

from pathlib import Path

import pytest

from lep.config.recipe import apply_override, read_recipe
from lep.errors import UsageError


@pytest.fixture
def write(tmp_path: Path):
    def write(name: str, text: str) -> Path:
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        return file

    return write


def test_a_recipe_inherits_what_it_does_not_set(write) -> None:
    write(
        "first.yaml",
        "out: x\ncollect: {seed: 1}\npretrain: {learning_rate: 1, mixture: {ru: 9, en: 1}}\ntune: {learning_rate: 2}",
    )
    write("more/second.yaml", "extends: ../first.yaml\npretrain: {mixture: {ru: 1}}\nreport: {title: x}")
    third = write("third.yaml", "extends: more/second.yaml\ncollect: {seed: null}")
    assert list(read_recipe(third).items()) == [
        ("collect", {"seed": None}),
        ("pretrain", {"learning_rate": 1, "mixture": {"ru": 1}}),
        ("tune", {"learning_rate": 2}),
        ("report", {"title": "x"}),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends: other.yaml", "leads back to itself"),
        ("extends: [a.yaml]", "expected the name of another recipe, found ['a.yaml']"),
        ("extends: absent.yaml", "absent.yaml: no such file; expected a recipe"),
        ("- collect", "expected stages and their settings"),
    ],
)
def test_a_recipe_that_cannot_be_extended_is_named(write, text, message) -> None:
    write("other.yaml", "extends: recipe.yaml")
    with pytest.raises(UsageError) as caught:
        read_recipe(write("recipe.yaml", text))
    assert message in str(caught.value)


def test_overrides_change_inherited_settings(write) -> None:
    write("first.yaml", "pretrain: {learning_rate: 1}")
    recipe = read_recipe(write("second.yaml", "extends: first.yaml"))
    apply_override(recipe, "pretrain.learning_rate=3")
    assert recipe == {"pretrain": {"learning_rate": 3}}
