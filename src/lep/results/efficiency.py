"""Speed, memory and side effects in the result of `evaluate`. What was not measured is `None`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lep.results.statistics import Difference, FractionEstimate, MeasuredValue, Ratio


@dataclass(frozen=True)
class TokensPerSecond:
    """Throughput of one model, all prompts of a batch together."""

    prefill: MeasuredValue
    """Prompt tokens, until the logits of the first new token."""
    decode: MeasuredValue
    """New tokens after the first one."""


@dataclass(frozen=True)
class TokensPerSecondRatios:
    """Throughput of a model over its reference's."""

    prefill: Ratio
    decode: Ratio


@dataclass(frozen=True)
class MemorySummary:
    """Memory of one model, in bytes."""

    weight_bytes: int
    peak_bytes: int | None = None
    """Peak memory of the accelerator."""
    kv_cache_bytes_per_token: float | None = None
    """What each token adds to the cache: 0 if its size is fixed, `None` if the model returns no cache."""
    kv_cache_fixed_bytes: float | None = None
    """The part of the cache that does not grow."""


@dataclass(frozen=True)
class ContextLength:
    """How many tokens a model can attend to."""

    tokens: int | None = None
    sliding_window: int | None = None
    """Context of the layers with sliding-window attention; `None` if there are none."""


@dataclass(frozen=True)
class TextEfficiency:
    """Efficiency on one kind of text."""

    characters_per_token: MeasuredValue
    bytes_per_token: MeasuredValue
    prefill: MeasuredValue
    """Characters per second."""
    decode: MeasuredValue
    """Characters per second."""
    kv_cache_bytes_per_1000_characters: float | None = None
    context_characters: float | None = None


@dataclass(frozen=True)
class ModelEfficiency:
    """Efficiency of one model."""

    tokens_per_second: TokensPerSecond
    memory: MemorySummary
    context: ContextLength
    texts: Mapping[str, TextEfficiency]


@dataclass(frozen=True)
class TextEfficiencyRatios:
    """A model over its reference on one kind of text."""

    characters_per_token: Ratio
    prefill: Ratio
    decode: Ratio
    kv_cache_bytes_per_1000_characters: Ratio | None = None
    context_characters: Ratio | None = None


@dataclass(frozen=True)
class EfficiencyRatios:
    """A model over its reference."""

    reference: str
    tokens_per_second: TokensPerSecondRatios
    weight_bytes: Ratio
    texts: Mapping[str, TextEfficiencyRatios]


@dataclass(frozen=True)
class ThroughputProtocol:
    """How speed was measured: the settings of `evaluate.efficiency`, and the device."""

    language: str
    batch_size: int
    prompt_tokens: int
    generated_tokens: int
    rounds: int
    device: str
    threads: int | None = None
    """Threads of the processor; `None` on an accelerator."""


@dataclass(frozen=True)
class EfficiencyResults:
    """Speed and memory of all models."""

    settings: ThroughputProtocol
    models: Mapping[str, ModelEfficiency]
    ratios: Mapping[str, EfficiencyRatios] = field(default_factory=dict)


@dataclass(frozen=True)
class TextSize:
    """How much of a text was measured."""

    documents: int
    characters: int
    bytes: int


@dataclass(frozen=True)
class ModelSideEffects:
    """Side effects in one model."""

    bits_per_byte: Mapping[str, MeasuredValue]
    """By text."""
    probes: Mapping[str, FractionEstimate] = field(default_factory=dict)
    """Accuracy by probe."""
    wrong_script: Mapping[str, Mapping[str, FractionEstimate]] = field(default_factory=dict)
    """Answers in another script than expected, by source of the answers and expected script."""


@dataclass(frozen=True)
class SideEffectDifferences:
    """Side effects in a model minus those in its reference; more bits are worse."""

    reference: str
    bits_per_byte: Mapping[str, Difference]
    probes: Mapping[str, Difference] = field(default_factory=dict)


@dataclass(frozen=True)
class SideEffectResults:
    """Effects of an adaptation on other languages and abilities, in all models."""

    models: Mapping[str, ModelSideEffects]
    differences: Mapping[str, SideEffectDifferences] = field(default_factory=dict)
    texts: Mapping[str, TextSize] = field(default_factory=dict)
