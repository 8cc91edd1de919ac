"""Describe the settings of a stage: name, type, default, one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin, get_type_hints

from lep.config.base import Settings


@dataclass(frozen=True)
class SettingHelp:
    """One setting; `NAME` in its name stands for a key that the user chooses (`sources.NAME.files`)."""

    name: str
    type: str
    default: str
    description: str


def describe_settings(settings: type[Settings], prefix: str = "") -> Iterator[SettingHelp]:
    """Yield every setting of a stage; nested settings follow the one that holds them.

    Args:
        settings: The settings class.
        prefix: Put before every name.

    Yields:
        One description per setting.
    """
    types = get_type_hints(settings)
    for name, field in settings.model_fields.items():
        default = "required" if field.is_required() else str(field.get_default(call_default_factory=True))
        description = " ".join((field.description or "").split())
        yield SettingHelp(prefix + name, _format_type(types[name]), default, description)
        for nested, nested_name in _find_nested_settings(types[name], prefix + name):
            yield from describe_settings(nested, f"{nested_name}.")


def _find_nested_settings(annotation: Any, prefix: str) -> Iterator[tuple[type[Settings], str]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        yield annotation, prefix
    for part in get_args(annotation):
        yield from _find_nested_settings(part, f"{prefix}.NAME" if get_origin(annotation) is dict else prefix)


def _format_type(annotation: Any) -> str:
    is_class = isinstance(annotation, type) and not hasattr(annotation, "__args__")
    name = re.sub(r"(\w+\.)+(?=\w)", "", annotation.__name__ if is_class else str(annotation))  # without modules
    if optional := re.fullmatch(r"Optional\[(.+)\]", name):
        return f"{optional[1]} | None"
    return name
