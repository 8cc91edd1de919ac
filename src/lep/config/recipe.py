"""Read a recipe file: its settings, those of the recipe that it extends, and overrides from the command line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lep.errors import UsageError

EXTENDS_KEY = "extends"
"""The key that names another recipe, relative to the folder of this one."""


def read_recipe(file: Path, *, extending_recipes: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read stages and their settings, in the order in which they run.

    A recipe that extends another inherits its stages and settings; its own settings replace inherited ones, and its own
    stages come last. `out` is not inherited.

    Args:
        file: The recipe, YAML.
        extending_recipes: Recipes that extend this one, to detect cycles.

    Returns:
        `out` and one section per stage, not yet validated.

    Raises:
        UsageError: A file cannot be read or is not a recipe, or a recipe extends itself.
    """
    recipe = _read_yaml(file)
    if EXTENDS_KEY not in recipe:
        return recipe
    if not isinstance(name := recipe.pop(EXTENDS_KEY), str):
        raise UsageError(f"{file}: {EXTENDS_KEY}: expected the name of another recipe, found {name!r}")
    other = file.parent / name
    if other.resolve() in (chain := (*extending_recipes, file.resolve())):
        raise UsageError(f"{file}: {EXTENDS_KEY}: {name} leads back to itself")
    inherited = read_recipe(other, extending_recipes=chain)
    inherited.pop("out", None)
    return inherited | {key: _merge_settings(inherited.get(key), value) for key, value in recipe.items()}


def apply_override(recipe: dict[str, Any], assignment: str) -> None:
    """Change a recipe in place.

    >>> recipe = {"pretrain": {"seed": 0}}
    >>> apply_override(recipe, "pretrain.batch_size=64")
    >>> recipe
    {'pretrain': {'seed': 0, 'batch_size': 64}}

    Args:
        recipe: The recipe.
        assignment: `stage.key=value`; the value is YAML.

    Raises:
        UsageError: It is not an assignment, the value is not YAML, or the key leads through a value.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError(f"{assignment!r}: expected key=value")
    *parents, last = key.split(".")
    section = recipe
    for parent in parents:
        child = section.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UsageError(f"{key}: {parent} is a value, not a group of settings")
        section = child
    try:
        section[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{assignment!r}: the value is not YAML: {error}") from None


def _merge_settings(inherited: object, overriding: object) -> object:
    """Merge the sections of one stage; anything else is replaced."""
    return (
        {**inherited, **overriding}
        if isinstance(inherited, Mapping) and isinstance(overriding, Mapping)
        else overriding
    )


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: no such file; expected a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{file}: expected stages and their settings")
    return raw
