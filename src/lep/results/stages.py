"""Result of each stage as a frozen dataclass: the stage returns it and the manifest stores its `asdict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lep.errors import ArtifactError
from lep.results.advice import AdviceResult, VocabularyStatistics
from lep.results.embeddings import InitializationResult, ProjectionFit, PropagationResult
from lep.results.evaluation import EvaluationResult
from lep.results.report import ReportResult

__all__ = [
    "AdviceResult",
    "BeforeAfter",
    "CalibrationResult",
    "CollectedLanguage",
    "CollectionResult",
    "EvaluationResult",
    "FinetuningResult",
    "InitializationResult",
    "LossPoint",
    "NewTokenCounts",
    "PretrainingResult",
    "ProjectionFit",
    "PropagationResult",
    "ReportResult",
    "RetokenizationResult",
    "SegmentationExample",
    "StageResult",
    "TrainingSource",
    "TuningResult",
    "ValidationPoint",
    "ValidationScore",
    "VocabularyCheck",
    "parse_evaluation_result",
    "parse_result",
]


@dataclass(frozen=True)
class CollectedLanguage:
    """Documents read, kept and dropped of one source."""

    documents_read: int
    documents_train: int
    documents_heldout: int
    characters_train: int
    characters_heldout: int
    dropped: Mapping[str, int]
    """Documents dropped, by reason."""


@dataclass(frozen=True)
class CollectionResult:
    """Result of `collect`."""

    languages: Mapping[str, CollectedLanguage]


@dataclass(frozen=True)
class BeforeAfter:
    """One measure with the old and with the new vocabulary."""

    before: float
    after: float


@dataclass(frozen=True)
class VocabularyCheck:
    """A property of the new tokenizer, checked token by token or text by text."""

    name: str
    passed: int
    total: int
    required: bool
    """Whether this kind of vocabulary guarantees it."""

    @property
    def failed(self) -> bool:
        """Whether a guaranteed property does not hold everywhere."""
        return self.required and self.passed != self.total


@dataclass(frozen=True)
class SegmentationExample:
    """One text as tokens of the old and of the new vocabulary."""

    text: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class RetokenizationResult:
    """Result of `retokenize`."""

    kind: str
    old_tokens: int
    kept_tokens: int
    new_tokens: int
    vocab_size: int
    characters_per_token: Mapping[str, BeforeAfter]
    """On held-out text, by language."""
    checks: tuple[VocabularyCheck, ...] = ()
    examples: tuple[SegmentationExample, ...] = ()
    documents_skipped: Mapping[str, int] = field(default_factory=dict)
    """Documents of the corpus that could not be read, by reason."""
    statistics: VocabularyStatistics = field(default_factory=VocabularyStatistics)


@dataclass(frozen=True)
class ValidationScore:
    """An average of the benchmark, with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class ValidationPoint:
    """What was measured on held-out text at one step of training, by language."""

    step: int
    tokens: int
    bits_per_byte: Mapping[str, float]
    score: float
    """Mean bits per byte of the mixture; lower is better."""
    benchmark: Mapping[str, ValidationScore] = field(default_factory=dict)
    """By group of tasks, and `all`: the mean of all selected tasks."""
    new_token_loss: Mapping[str, float] = field(default_factory=dict)
    """Nats per new token."""
    old_token_loss: Mapping[str, float] = field(default_factory=dict)
    """Nats per token that is not new."""
    new_token_probability: Mapping[str, float] = field(default_factory=dict)
    """Mean probability that the model gives to new tokens."""
    new_token_fraction: Mapping[str, float] = field(default_factory=dict)
    """Fraction of the text's tokens that are new."""
    generated_new_fraction: Mapping[str, float] = field(default_factory=dict)
    """Fraction of the tokens of greedy continuations that are new."""


@dataclass(frozen=True)
class LossPoint:
    """Mean training loss per token at one step, in nats."""

    step: int
    loss: float
    accuracy: float | None = None
    """Of preference training: how often the chosen answer has the higher reward."""
    margin: float | None = None
    """Of preference training: mean reward of the chosen answer minus that of the rejected one."""


@dataclass(frozen=True)
class NewTokenCounts:
    """How many of the new tokens the training samples contain, and how often."""

    known: int
    """New tokens, as far as it is known which ones are new."""
    never_seen: int
    seen_less_than_100_times: int


@dataclass(frozen=True)
class PretrainingResult:
    """Result of `pretrain`."""

    trained_tokens: int
    tokens_per_second: float
    best_step: int
    """The validated step whose weights were written."""
    curve: tuple[ValidationPoint, ...] = ()
    losses: tuple[LossPoint, ...] = ()
    new_tokens: NewTokenCounts | None = None
    epochs_by_language: Mapping[str, float] = field(default_factory=dict)
    document_masking: bool = False
    """Whether attention was kept inside documents."""
    mfu: float | None = None
    """Model FLOPs utilization; `None` where the peak of the device is not known."""

    @property
    def best_point(self) -> ValidationPoint:
        """What was measured at the best step."""
        return next(point for point in self.curve if point.step == self.best_step)


@dataclass(frozen=True)
class TrainingSource:
    """Samples from one source of conversations."""

    rows: int
    tokens: int
    trained_tokens: int
    """Tokens that carry loss."""
    trained_fraction: float
    """Fraction of the loss-carrying tokens of all sources that are from this one."""


@dataclass(frozen=True)
class FinetuningResult:
    """What every fine-tuning reports, whether on data (`tune`) or on a teacher's answers (`calibrate`)."""

    examples: int
    trained_tokens: int
    losses: tuple[LossPoint, ...] = ()
    tokens_per_second: float = 0.0
    epochs: float = 0.0
    """How often each sample is seen, on average."""
    sources: Mapping[str, TrainingSource] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    """What the checks of the conversations noticed, one sentence each."""


@dataclass(frozen=True)
class TuningResult(FinetuningResult):
    """Result of `tune`."""

    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Rows that were left out, by source and reason."""


@dataclass(frozen=True, kw_only=True)
class CalibrationResult(FinetuningResult):
    """Result of `calibrate`; its examples are the kept answers and the copy tasks."""

    answers: int
    """Answers of the teacher."""
    kept_answers: int
    """Answers that were scored well enough to train on."""
    score_counts: Mapping[str, int] = field(default_factory=dict)
    """Answers by score; `none`: not scored."""
    rejected: Mapping[str, int] = field(default_factory=dict)
    """Answers that were not kept, by reason; one answer can have several."""
    skipped: Mapping[str, int] = field(default_factory=dict)
    """Prompts that were left out, by reason."""


StageResult = (
    CollectionResult
    | AdviceResult
    | RetokenizationResult
    | InitializationResult
    | PretrainingResult
    | TuningResult
    | PropagationResult
    | CalibrationResult
    | EvaluationResult
    | ReportResult
)

ResultT = TypeVar("ResultT")


def parse_result(raw: Mapping[str, Any], result_type: type[ResultT], *, path: Path | str) -> ResultT:
    """Parse the `result` of a manifest.

    Args:
        raw: `result` of the manifest.
        result_type: The dataclass of the stage that wrote it.
        path: The manifest, named in errors.

    Returns:
        The typed result.

    Raises:
        ArtifactError: A field is missing or has the wrong type.
    """
    try:
        return TypeAdapter(result_type).validate_python(dict(raw))
    except ValidationError as error:
        problems = [f"result.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        listed = "; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else "")
        raise ArtifactError(
            f"{path}: not {result_type.__name__} ({listed}); run the stage again with this version of lep"
        ) from None


def parse_evaluation_result(raw: Mapping[str, Any], *, path: Path | None = None) -> EvaluationResult:
    """Parse the `result` of an `evaluate` manifest, with at least one model.

    Args:
        raw: `result` of the manifest.
        path: The manifest, named in errors.

    Returns:
        The typed result.

    Raises:
        ArtifactError: A field is missing or has the wrong type, or there is no model.
    """
    result = parse_result(raw, EvaluationResult, path=path or "evaluate")
    if not result.models:
        raise ArtifactError(f"{path or 'evaluate'}: expected results of at least one model, found none; evaluate again")
    return result
