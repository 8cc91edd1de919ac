"""What `evaluate` writes as `numbers` into its manifest, as values. None stands for what was not measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lep.results.efficiency import Change, Efficiency, Ratio, SideEffects

MICRO = "Micro-Avg"
COLUMNS: tuple[str, ...] = (MICRO, "DaruMMLU", "DaruMERA", "DaruSum", "DaruCopy-EN", "DaruCopy-RU")
"""The averages of the benchmark, in the order of the paper's tables."""
PREFIX = "darumeru_"
"""Of the names of its tasks."""


@dataclass(frozen=True)
class Score:
    """Share of items answered right, with its 95 % interval."""

    correct: int
    items: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True)
class Speed:
    """Generation speed of one model."""

    tokens_per_second: float
    characters_per_second: float


@dataclass(frozen=True)
class Model:
    """What was measured on one model; none: not measured."""

    symbols_per_token: Mapping[str, float]
    bits_per_byte: Mapping[str, float]
    skills: Mapping[str, Score] | None = None
    speed: Speed | None = None


@dataclass(frozen=True)
class Estimate:
    """A score between 0 and 1, with its 95 % interval."""

    score: float
    interval: tuple[float, float]
    missing: tuple[str, ...] = ()
    """Tasks without a score, that an average leaves out."""


@dataclass(frozen=True)
class TaskScore:
    """One task of the benchmark: its score, or what went wrong."""

    group: str
    score: float | None = None
    interval: tuple[float, float] | None = None
    items: int = 0
    error: str = ""

    @property
    def estimate(self) -> Estimate | None:
        """None: the task failed."""
        return None if self.score is None or self.interval is None else Estimate(self.score, self.interval)


@dataclass(frozen=True)
class Benchmarked:
    """One model's scores, and how they were asked for."""

    shots: int
    chat_template: bool
    tasks: Mapping[str, TaskScore]
    groups: Mapping[str, Estimate]
    micro: Estimate | None = None
    missing: tuple[str, ...] = ()
    """Of the 17 tasks those without a score, asked for or not."""

    @property
    def averages(self) -> Mapping[str, Estimate]:
        """The Micro-Avg, where there is one, and the groups."""
        return {**({MICRO: self.micro} if self.micro else {}), **self.groups}


@dataclass(frozen=True)
class Changes:
    """One model against its reference."""

    against: str
    tasks: Mapping[str, Change]
    groups: Mapping[str, Change]
    micro: Change | None = None

    @property
    def averages(self) -> Mapping[str, Change]:
        """Of the Micro-Avg, where there is one, and of the groups."""
        return {**({MICRO: self.micro} if self.micro else {}), **self.groups}


@dataclass(frozen=True)
class Asked:
    """How the benchmark was set."""

    variant: str
    """`paper` or `scripts`: whose metrics, where the paper's text and its scripts differ."""
    limit: int | None = None
    """Items of each task at the most."""
    data: str | None = None
    """The folder that the items were read from; none: the hub."""


@dataclass(frozen=True)
class Benchmark:
    """Darumeru."""

    settings: Asked
    models: Mapping[str, Benchmarked]
    differences: Mapping[str, Changes] = field(default_factory=dict)


@dataclass(frozen=True)
class Output:
    """What a model wrote; untrusted text."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Answer:
    """One item and what each model answered."""

    skill: str
    prompt: str
    expected: str
    answers: Mapping[str, Output]


@dataclass(frozen=True)
class Continuation:
    """One opening and how each model continues it."""

    prompt: str
    texts: Mapping[str, Output]


@dataclass(frozen=True)
class Evaluated:
    """Numbers of `evaluate`; the first model is the one that ratios refer to."""

    models: Mapping[str, Model]
    answers: tuple[Answer, ...] = ()
    continuations: tuple[Continuation, ...] = ()
    benchmark: Benchmark | None = None
    efficiency: Efficiency | None = None
    side_effects: SideEffects | None = None

    def languages(self) -> tuple[str, ...]:
        """All languages that a model was measured in, in the order of their first mention."""
        seen = (key for model in self.models.values() for key in (*model.symbols_per_token, *model.bits_per_byte))
        return tuple(dict.fromkeys(seen))

    def times_as_fast(self, name: str, *, against: str) -> Ratio | None:
        """Characters written per second over another model's, both measured by turns; none: they were not."""
        ratios = self.efficiency.ratios.get(name) if self.efficiency else None
        if self.efficiency is None or ratios is None or ratios.against != against:
            return None
        return ratios.texts[self.efficiency.settings.language].writing
