"""Every knob of every room: one frozen model a room, documented field by field. Imports no torch.

Every `Path` in a room's settings is an input: it names a file, a folder, or, in a recipe, an earlier room
(`adapted: pretrain`). Where a room writes is not a setting; the command gives it (`out=`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lep.config.advise import Advise
from lep.config.base import How, Settings
from lep.config.benchmark import Benchmark
from lep.config.calibrate import Calibrate
from lep.config.collect import Collect, Source
from lep.config.endpoint import Endpoint
from lep.config.evaluate import Evaluate
from lep.config.initialize import Initialize, Tables
from lep.config.pretrain import Pretrain
from lep.config.propagate import Propagate
from lep.config.report import Report
from lep.config.retokenize import Retokenize, VocabularyKind
from lep.config.tune import Conversations, Copies, Tune, Tuning

ROOMS: dict[str, type[Settings]] = {
    "collect": Collect,
    "advise": Advise,
    "retokenize": Retokenize,
    "initialize": Initialize,
    "pretrain": Pretrain,
    "tune": Tune,
    "propagate": Propagate,
    "calibrate": Calibrate,
    "evaluate": Evaluate,
    "report": Report,
}


def paths(settings: Settings) -> dict[str, Path]:
    """Every input of a room, by its place in the settings: `base`, `models.adapted`, `sources.ru.files.0`."""
    return {name: value for name, value in flatten(settings.model_dump()).items() if isinstance(value, Path)}


def free(settings: Settings) -> frozenset[str]:
    """Knobs that say how to work, not what to make, by their place: an artifact is the same with any value of them."""
    fields = type(settings).model_fields
    found = {name for name, knob in fields.items() if How in knob.metadata}
    return frozenset(found).union(*(_free_inside(name, getattr(settings, name)) for name in fields))


def _free_inside(place: str, value: object) -> set[str]:
    if isinstance(value, Settings):
        return {f"{place}.{name}" for name in free(value)}
    if isinstance(value, Mapping):
        return {name for key, item in value.items() for name in _free_inside(f"{place}.{key}", item)}
    return set()


S = TypeVar("S", bound=Settings)


def with_paths(settings: S, change: Callable[[Path], Path]) -> S:
    """The same settings with every input changed."""

    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {key: walk(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [walk(item) for item in value]
        return change(value) if isinstance(value, Path) else value

    return type(settings).model_validate(walk(settings.model_dump()))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as `a.b.0` → value."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            flat |= flatten({str(i): item for i, item in enumerate(value)}, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


__all__ = [
    "ROOMS",
    "Advise",
    "Benchmark",
    "Calibrate",
    "Collect",
    "Conversations",
    "Copies",
    "Endpoint",
    "Evaluate",
    "Initialize",
    "Pretrain",
    "Propagate",
    "Report",
    "Retokenize",
    "Settings",
    "Source",
    "Tables",
    "Tune",
    "Tuning",
    "VocabularyKind",
    "flatten",
    "free",
    "paths",
    "with_paths",
]
