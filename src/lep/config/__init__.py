"""The settings of every stage: one frozen pydantic model per stage, documented field by field. Imports no torch.

Every `Path` in a stage's settings is an input: it names a file, a folder or, in a recipe, an earlier stage
(`adapted: pretrain`). Where a stage writes is not a setting; the command says it (`out=`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from lep.config.advise import AdviseSettings
from lep.config.base import RuntimeOnly, Settings
from lep.config.benchmark import BenchmarkSettings
from lep.config.calibrate import CalibrateSettings
from lep.config.collect import CollectSettings, CorpusSource
from lep.config.endpoint import Endpoint
from lep.config.evaluate import EvaluateSettings
from lep.config.initialize import EmbeddingNamesSettings, InitializeSettings
from lep.config.pretrain import PretrainSettings
from lep.config.propagate import PropagateSettings
from lep.config.report import ReportSettings
from lep.config.retokenize import RetokenizeSettings, VocabularyKind
from lep.config.tune import ConversationSource, CopyTaskSettings, FinetuningSettings, TuneSettings


def get_input_paths(settings: Settings) -> dict[str, Path]:
    """Return every input by its dotted name in the settings: `base`, `models.adapted`, `sources.ru.files.0`."""
    return {name: value for name, value in flatten(settings.model_dump()).items() if isinstance(value, Path)}


def runtime_only_fields(settings: Settings) -> frozenset[str]:
    """Return dotted names of settings that do not affect the result and are left out of the fingerprint."""
    fields = type(settings).model_fields
    names = {name for name, field in fields.items() if RuntimeOnly in field.metadata}
    return frozenset(names).union(*(_nested_runtime_only_fields(name, getattr(settings, name)) for name in fields))


def _nested_runtime_only_fields(prefix: str, value: object) -> set[str]:
    if isinstance(value, Settings):
        return {f"{prefix}.{name}" for name in runtime_only_fields(value)}
    if isinstance(value, Mapping):
        return {name for key, item in value.items() for name in _nested_runtime_only_fields(f"{prefix}.{key}", item)}
    return set()


SettingsT = TypeVar("SettingsT", bound=Settings)


def map_paths(settings: SettingsT, transform: Callable[[Path], Path]) -> SettingsT:
    """Return the settings with every input path transformed."""

    def map_value(value: object) -> object:
        if isinstance(value, dict):
            return {key: map_value(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [map_value(item) for item in value]
        return transform(value) if isinstance(value, Path) else value

    return type(settings).model_validate(map_value(settings.model_dump()))


def flatten(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names.

    >>> flatten({"models": {"a": "x"}, "betas": (0.9, 0.95)})
    {'models.a': 'x', 'betas.0': 0.9, 'betas.1': 0.95}

    Args:
        settings: Settings as plain values.
        prefix: Put before every name.

    Returns:
        Values by dotted name.
    """
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
    "AdviseSettings",
    "BenchmarkSettings",
    "CalibrateSettings",
    "CollectSettings",
    "ConversationSource",
    "CopyTaskSettings",
    "CorpusSource",
    "EmbeddingNamesSettings",
    "Endpoint",
    "EvaluateSettings",
    "FinetuningSettings",
    "InitializeSettings",
    "PretrainSettings",
    "PropagateSettings",
    "ReportSettings",
    "RetokenizeSettings",
    "Settings",
    "TuneSettings",
    "VocabularyKind",
    "flatten",
    "get_input_paths",
    "map_paths",
    "runtime_only_fields",
]
