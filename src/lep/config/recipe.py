"""A recipe's file as data: what it says, what it takes over from another one, and what the command changes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from lep.errors import UsageError

EXTENDS = "extends"
"""The key that names another recipe, seen from the folder of this one."""


def read_recipe(file: Path, *, within: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Rooms and their settings, in the order in which they run.

    A recipe that extends another has all of it; what it says itself, setting by setting, takes the place of what is
    said there. Rooms of its own come last; where its results stand (`out`) is not taken over.

    Args:
        file: YAML.
        within: recipes that extend this one.

    Raises:
        UsageError: a file cannot be read or is no recipe; a recipe extends itself.
    """
    raw = _read(file)
    if EXTENDS not in raw:
        return raw
    if not isinstance(name := raw.pop(EXTENDS), str):
        raise UsageError(f"{file}: {EXTENDS}: expected the name of another recipe, found {name!r}")
    other = file.parent / name
    if other.resolve() in (seen := (*within, file.resolve())):
        raise UsageError(f"{file}: {EXTENDS}: {name} leads back to itself")
    found = read_recipe(other, within=seen)
    found.pop("out", None)
    return found | {key: _over(found.get(key), value) for key, value in raw.items()}


def override(raw: dict[str, Any], assignment: str) -> None:
    """Change a recipe in place by `room.key=value`; the value is YAML."""
    key, equals, text = assignment.partition("=")
    if not equals or not key:
        raise UsageError(f"{assignment!r}: expected key=value")
    *parents, last = key.split(".")
    place = raw
    for parent in parents:
        child = place.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UsageError(f"{key}: {parent} is a value, not a group of settings")
        place = child
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{assignment!r}: the value is not YAML: {error}") from None


def _over(theirs: object, ours: object) -> object:
    """A room's settings over those of the same room; anything else as it is."""
    return {**theirs, **ours} if isinstance(theirs, Mapping) and isinstance(ours, Mapping) else ours


def _read(file: Path) -> dict[str, Any]:
    try:
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{file}: is not there; expected a recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not YAML: {error}") from None
    if not isinstance(raw, dict):
        raise UsageError(f"{file}: expected rooms and their settings")
    return raw
