"""Speed, memory and side effects as `evaluate` writes them into its manifest. None stands for what was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Value:
    """A measure, with its 95 % interval where there is one."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Change:
    """A model's measure less its reference's on the same items, with the 95 % interval of that where there is one."""

    difference: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Ratio:
    """A model's measure over its reference's, as both were measured together."""

    ratio: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Memory:
    """In bytes."""

    weights: int
    peak: int | None = None
    """Of the accelerator."""


@dataclass(frozen=True)
class Context:
    """How far a model sees."""

    tokens: int | None = None
    sliding_window: int | None = None


@dataclass(frozen=True)
class OfText:
    """What a model's tokens make of one kind of text."""

    symbols_per_token: Value
    bytes_per_token: Value
    reading: Value
    """Characters per second."""
    writing: Value
    """Characters per second."""
    cache_per_1000_characters: float | None = None
    """Bytes."""
    context_characters: float | None = None


@dataclass(frozen=True)
class Efficient:
    """One model; `tokens_per_second` of `reading` and `writing`."""

    tokens_per_second: Mapping[str, Value]
    memory: Memory
    context: Context
    texts: Mapping[str, OfText]


@dataclass(frozen=True)
class RatiosOfText:
    """A model over its reference on one kind of text."""

    symbols_per_token: Ratio
    reading: Ratio
    writing: Ratio
    cache_per_1000_characters: Ratio | None = None
    context_characters: Ratio | None = None


@dataclass(frozen=True)
class Ratios:
    """A model over its reference."""

    against: str
    tokens_per_second: Mapping[str, Ratio]
    weights: Ratio
    texts: Mapping[str, RatiosOfText]


@dataclass(frozen=True)
class Timed:
    """How speed was measured."""

    language: str
    prompts: int
    prompt_tokens: int
    new_tokens: int
    rounds: int
    device: str


@dataclass(frozen=True)
class Efficiency:
    """Speed and memory."""

    settings: Timed
    models: Mapping[str, Efficient]
    ratios: Mapping[str, Ratios] = field(default_factory=dict)


@dataclass(frozen=True)
class Share:
    """A share of items, with its 95 % interval."""

    score: float
    interval: tuple[float, float]
    items: int


@dataclass(frozen=True)
class Affected:
    """What one model does besides: bits per byte by text, probes by name, answers in another script than expected, by
    where they come from and the script."""

    bits_per_byte: Mapping[str, Value]
    probes: Mapping[str, Share] = field(default_factory=dict)
    wrong_script: Mapping[str, Mapping[str, Share]] = field(default_factory=dict)


@dataclass(frozen=True)
class AffectedLess:
    """The same less the reference's; more bits are worse."""

    against: str
    bits_per_byte: Mapping[str, Change]
    probes: Mapping[str, Change] = field(default_factory=dict)


@dataclass(frozen=True)
class SideEffects:
    """What an adaptation does to other languages and abilities."""

    models: Mapping[str, Affected]
    differences: Mapping[str, AffectedLess] = field(default_factory=dict)
