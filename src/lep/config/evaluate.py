"""Settings of `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import model_validator

from lep.config.base import Count, Dtype, Settings
from lep.config.benchmark import Benchmark, Name
from lep.config.efficiency import Efficiency, SideEffects


class Evaluate(Settings):
    """Models + held-out text and items → numbers."""

    models: dict[Name, Path]
    """What to measure, by the name that tables show."""
    corpus: Path | None = None
    """A corpus made by `collect`; its held-out half is read. None: symbols per token and bits per byte are not
    measured."""
    skills: Path | None = None
    """Items as .jsonl rows with `skill`, `prompt` and `completion`; right is what equals the completion."""
    characters: Count = 60_000
    """Characters of held-out text a language for symbols per token and bits per byte."""
    block: Count = 512
    """Tokens a model reads at once when bits per byte are measured."""
    continuations: Count | None = None
    """Openings of each language that every model continues; none: none are."""
    efficiency: Efficiency | None = None
    """Speed, memory and density; none: they are not measured."""
    side_effects: SideEffects | None = None
    """Other languages, arithmetic, code, and the script of answers; none: they are not measured."""
    benchmark: Benchmark | None = None
    """Darumeru; none: it is not run."""
    reference: str | None = None
    """The model that the others are compared with, item by item; none: the first."""
    dtype: Dtype = "bfloat16"
    """Precision of the weights and activations."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        """Say which model is the first: fingerprints do not know the order of a mapping."""
        models = given.get("models") if isinstance(given, dict) else None
        if isinstance(models, dict) and models and given.get("reference") is None:
            return {**given, "reference": next(iter(models))}
        return given

    @model_validator(mode="after")
    def _agree(self) -> Evaluate:
        base, endpoints = (self.benchmark.base, self.benchmark.endpoints) if self.benchmark else ((), {})
        if unknown := [name for name in base if name not in self.models]:
            raise ValueError(f"benchmark.base: {', '.join(unknown)} is not among models: {', '.join(self.models)}")
        if twice := [name for name in endpoints if name in self.models]:
            raise ValueError(f"benchmark.endpoints: {', '.join(twice)} is the name of a model, too; give another")
        wanted = (self.corpus, self.skills, self.efficiency, self.side_effects, self.benchmark)
        if all(one is None for one in wanted):
            raise ValueError("there is nothing to measure: give corpus, skills, efficiency, side_effects or benchmark")
        if not self.models and (self.efficiency or self.side_effects):
            raise ValueError("efficiency and side_effects are measured on models that are folders; there are none")
        if not (names := [*self.models, *endpoints]):
            raise ValueError("there is no model to measure")
        if self.reference is not None and self.reference not in names:
            raise ValueError(f"reference: {self.reference} is not among the models: {', '.join(names)}")
        return self
