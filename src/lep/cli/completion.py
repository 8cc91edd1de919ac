"""What the shell offers after TAB: argcomplete knows verbs and flags, this module stages, settings and their values."""

from __future__ import annotations

from argparse import Action, Namespace
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from argcomplete.completers import FilesCompleter

from lep.registry import STAGES

_STAGE_ARGUMENTS = ("from_", "to_")
"""Destinations of the arguments that name a stage."""


def complete(prefix: str, action: Action, parsed_args: Namespace, **_: Any) -> list[str]:
    """Return the words that can stand at one place of the command line.

    Args:
        prefix: What has been typed; argcomplete drops the words that do not begin with it.
        action: The argument of the parser at this place.
        parsed_args: What has been parsed so far.

    Returns:
        Names of stages, `setting=` words, values of a setting, or file names.
    """
    if action.dest in _STAGE_ARGUMENTS:
        return list(STAGES)
    settings = _get_setting_types(getattr(parsed_args, "stage", None)) if action.dest == "overrides" else {}
    name, equals, value = prefix.partition("=")
    if not equals:
        return [*(f"{setting}=" for setting in settings), *_complete_file_names(prefix)]
    values = list(_list_choices(settings.get(name))) or _complete_file_names(value)
    return [f"{name}={choice}" for choice in values]


def _get_setting_types(stage: str | None) -> Mapping[str, Any]:
    """Types of a stage's settings; of all stages', with the stage in front, where None is given."""
    if stage:
        fields = STAGES[stage].settings.model_fields
        return {name: field.annotation for name, field in fields.items()} | {"out": None}
    types = {f"{name}.{key}": kind for name in STAGES for key, kind in _get_setting_types(name).items()}
    return types | {"out": None}


def _list_choices(annotation: object) -> Iterator[str]:
    """Values of a type that has few of them."""
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for part in get_args(annotation):
            yield from _list_choices(part)


def _complete_file_names(prefix: str) -> list[str]:
    return list(FilesCompleter()(prefix))
