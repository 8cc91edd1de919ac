"""Settings of `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import model_validator

from lep.config.base import Dtype, PositiveInt, Settings
from lep.config.benchmark import BenchmarkSettings, ModelName
from lep.config.efficiency import EfficiencySettings, SideEffectsSettings


class EvaluateSettings(Settings):
    """Models + held-out text and items → measurements."""

    models: dict[ModelName, Path]
    """Models to measure, by the name that tables show."""
    corpus: Path | None = None
    """A corpus made by `collect`, for characters per token and bits per byte of its held-out text; None: do not measure
    them."""
    skills: Path | None = None
    """Items as .jsonl rows with `skill`, `prompt` and `completion`; an answer is correct if it equals the
    completion."""
    heldout_characters: PositiveInt = 60_000
    """Characters of held-out text per language for characters per token and bits per byte."""
    sequence_length: PositiveInt = 512
    """Length of the windows in which bits per byte are measured, in tokens."""
    num_continuations: PositiveInt | None = None
    """Number of beginnings of texts per language that every model continues; None: none."""
    efficiency: EfficiencySettings | None = None
    """Measure speed, memory and compression; None: do not."""
    side_effects: SideEffectsSettings | None = None
    """Measure effects on other languages, arithmetic, code, and the script of answers; None: do not."""
    benchmark: BenchmarkSettings | None = None
    """Run Darumeru; None: do not."""
    reference: str | None = None
    """The model that the others are compared with, item by item; None: the first."""
    dtype: Dtype = "bfloat16"
    """Precision of weights and activations."""

    @model_validator(mode="before")
    @classmethod
    def _fill_default_reference(cls, data: Any) -> Any:
        """Name the first model: a fingerprint does not contain the order of a mapping."""
        models = data.get("models") if isinstance(data, dict) else None
        if isinstance(models, dict) and models and data.get("reference") is None:
            return {**data, "reference": next(iter(models))}
        return data

    @model_validator(mode="after")
    def _check_consistency(self) -> EvaluateSettings:
        base, endpoints = (self.benchmark.base_models, self.benchmark.endpoints) if self.benchmark else ((), {})
        if unknown := [name for name in base if name not in self.models]:
            raise ValueError(
                f"benchmark.base_models: {', '.join(unknown)} is not among models: {', '.join(self.models)}"
            )
        if twice := [name for name in endpoints if name in self.models]:
            raise ValueError(f"benchmark.endpoints: {', '.join(twice)} is also the name of a model; give another")
        measurements = (self.corpus, self.skills, self.efficiency, self.side_effects, self.benchmark)
        if all(measurement is None for measurement in measurements):
            raise ValueError("there is nothing to measure; give corpus, skills, efficiency, side_effects or benchmark")
        if not self.models and (self.efficiency or self.side_effects):
            raise ValueError("efficiency and side_effects need models that are folders; there are none")
        if not (names := [*self.models, *endpoints]):
            raise ValueError("there is no model to measure")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: {self.reference} is not among the models: {', '.join(names)}")
        return self
