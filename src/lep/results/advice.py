"""Result of `advise`: what each vocabulary size gains and costs, and the recommended size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LimitingFactor = Literal["text", "speed", "occurrences", "covered", "sweep"]
"""Why no larger size is recommended: the text gets hardly shorter; generation gets slower; the new tokens are too rare;
no size shortens the text enough; or no larger size was tried."""


@dataclass(frozen=True)
class VocabularyStatistics:
    """What training a vocabulary reports besides the vocabulary itself."""

    dropped: Mapping[str, int] = field(default_factory=dict)
    """Learned tokens that were left out, by reason."""
    base_tokens_used: int | None = None
    """Tokens of the base that occur in the corpus; `None` where the base is not pruned."""
    kept_fraction: float | None = None
    """Fraction of the corpus's base-token occurrences whose tokens are kept; `None` where the base is not pruned."""


@dataclass(frozen=True)
class TextCounts:
    """Size of a text, independent of any tokenizer."""

    characters: int
    bytes: int
    words: int
    """Runs of non-white-space characters."""


@dataclass(frozen=True)
class ModelDimensions:
    """The dimensions of a model that determine what a vocabulary costs."""

    hidden_size: int
    tied: bool
    """Whether input and output embeddings are one matrix."""
    num_parameters: int
    """All parameters, input and output embeddings included."""
    num_embeddings: int
    """Rows of each embedding matrix with the base vocabulary."""

    @property
    def parameters_read_per_token(self) -> int:
        """Parameters read for each generated token: all but the input embeddings, unless they are tied."""
        return self.num_parameters - (0 if self.tied else self.num_embeddings * self.hidden_size)


@dataclass(frozen=True)
class LanguageCompression:
    """How a vocabulary tokenizes the held-out text of one language."""

    characters_per_token: float
    bytes_per_token: float
    tokens_per_word: float


@dataclass(frozen=True)
class EmbeddingCost:
    """What the embedding matrices grow by; negative where they shrink."""

    parameters: int
    bytes: int
    """In bfloat16."""
    parameter_fraction: float
    """Relative to all parameters of the model with the base vocabulary."""


@dataclass(frozen=True)
class SizeTradeoff:
    """What one vocabulary size gains and costs."""

    new_tokens: int
    vocabulary_size: int
    compression: Mapping[str, LanguageCompression]
    token_reduction: float
    """Fraction of the mixture's tokens that are saved, relative to the base."""
    prefill_speedup: float
    """How many times faster the mixture's text is read."""
    decode_speedup: float | None
    """How many times faster it is generated; `None` without a model."""
    cost: EmbeddingCost | None
    """`None` without a model."""
    trained_fraction: float
    """Fraction of the new tokens that occur often enough in training (`MIN_OCCURRENCES`)."""
    training_tokens_needed: int | None
    """Training tokens of text like this with which enough new tokens do (`MIN_TRAINED_FRACTION`); `None`: no amount of
    it is enough."""


@dataclass(frozen=True)
class SizeRecommendation:
    """The recommended size, and what limits it."""

    new_tokens: int
    """0: do not extend."""
    limit: LimitingFactor
    limiting_size: int
    """The size that the limit refers to: the next larger one or, where none is recommended, the closest candidate."""


@dataclass(frozen=True)
class AdviceResult:
    """Result of `advise`."""

    kind: str
    training_tokens: int | None
    """Tokens of training; `None`: one epoch over the corpus."""
    language_weights: Mapping[str, float]
    """Weight of each language in the mixture, by characters, in any unit."""
    texts: Mapping[str, TextCounts]
    """Held-out text, of the mixture's languages and of others."""
    model: ModelDimensions | None
    points: tuple[SizeTradeoff, ...]
    """The base first, then from small to large."""
    recommendation: SizeRecommendation
    explanation: tuple[str, ...] = ()
    """The recommendation and its reasons, one sentence each."""
    assumptions: tuple[str, ...] = ()
    """What the expectations rest on, one sentence each."""
    documents_skipped: Mapping[str, int] = field(default_factory=dict)
    """Documents of the corpus that could not be read, by reason."""
    statistics: VocabularyStatistics = field(default_factory=VocabularyStatistics)

    @property
    def base(self) -> SizeTradeoff:
        """The base vocabulary."""
        return self.points[0]

    @property
    def recommended(self) -> SizeTradeoff:
        """The recommended size; the base when it should not be extended."""
        return self.find_point(self.recommendation.new_tokens)

    def find_point(self, new_tokens: int) -> SizeTradeoff:
        """Return the point with this number of new tokens."""
        return next(point for point in self.points if point.new_tokens == new_tokens)
