"""The knobs of a room as what is said of them: name, type, default, one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from lep.config.base import Settings


@dataclass(frozen=True)
class Knob:
    """One knob; `NAME` in its name stands for a key that the user chooses (`sources.NAME.files`)."""

    name: str
    type: str
    default: str
    words: str


def knobs(settings: type[Settings], prefix: str = "") -> Iterator[Knob]:
    """Every knob of a room, those of settings inside settings after the one that holds them."""
    types = get_type_hints(settings)
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
        words = " ".join((field.description or "").split())
        yield Knob(prefix + name, _type_name(types[name]), default, words)
        for inner, place in _inside(types[name], prefix + name):
            yield from knobs(inner, f"{place}.")


def _inside(annotation: Any, place: str) -> Iterator[tuple[type[Settings], str]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation, place
    for part in get_args(annotation):
        yield from _inside(part, f"{place}.NAME" if get_origin(annotation) is dict else place)


def _type_name(annotation: Any) -> str:
    plain = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    name = re.sub(r"(\w+\.)+(?=\w)", "", annotation.__name__ if plain else str(annotation))  # without the modules
    if optional := re.fullmatch(r"Optional\[(.+)\]", name):
        return f"{optional[1]} | None"
    return name
