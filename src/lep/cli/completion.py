"""What the shell offers after TAB: argcomplete knows the verbs and flags, this file rooms, knobs and values."""

from __future__ import annotations

from argparse import Action, Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from argcomplete.completers import FilesCompleter

from lep.config import ROOMS

_ROOM = ("from_", "to_")
"""Places on the command line where a room is named."""


def complete(prefix: str, action: Action, parsed_args: Namespace, **_: Any) -> list[str]:
    """Words that may stand at a place of the command line; argcomplete drops those that do not begin with `prefix`."""
    if action.dest in _ROOM:
        return list(ROOMS)
    knobs = _knobs(getattr(parsed_args, "room", None)) if action.dest in ("words", "overrides") else {}
    name, equals, value = prefix.partition("=")
    if not equals:
        return [*(f"{knob}=" for knob in knobs), *_files(prefix)]
    values = list(_choices(knobs.get(name))) or _files(value)
    return [f"{name}={found}" for found in values]


def _knobs(room: str | None) -> Mapping[str, Any]:
    """Types of a room's knobs, or of all rooms' as a recipe's overrides name them."""
    if room:
        return {name: knob.annotation for name, knob in ROOMS[room].model_fields.items()} | {"out": None}
    return {f"{room}.{name}": kind for room in ROOMS for name, kind in _knobs(room).items()} | {"out": None}


def _choices(kind: object) -> Iterator[str]:
    """The values of a type that has few."""
    if kind is bool:
        yield from ("true", "false")
    elif get_origin(kind) is Literal:
        yield from map(str, get_args(kind))
    else:
        for part in get_args(kind):
            yield from _choices(part)


def _files(prefix: str) -> list[str]:
    return list(FilesCompleter()(prefix))
