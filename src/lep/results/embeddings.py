"""Results of the stages that write embedding matrices: `initialize` and `propagate`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class InitializationStats:
    """How the rows of one embedding matrix were made."""

    copied: int
    composed: int
    mean_segmentation_length: float
    """Old tokens per composed token, on average."""
    mean_norm_copied: float
    mean_norm_composed: float
    """Mean Euclidean norm of the copied and of the composed rows; a mean of several rows is shorter."""


@dataclass(frozen=True)
class InitializationResult:
    """Result of `initialize`."""

    copied_rows: int
    composed_rows: int
    mean_segmentation_length: float
    padding_rows: int = 0
    """Rows after the vocabulary, which belong to no token."""
    embeddings: Mapping[str, InitializationStats] = field(default_factory=dict)
    """By embedding matrix."""


@dataclass(frozen=True)
class ProjectionFit:
    """The projection of one embedding matrix and how well it fits; `None` where the method fits nothing (swap).

    Residuals are ‖XP − Y‖ / ‖X − Y‖: 1 is no better than swap. The held-out ones are over rows that a first fit did
    not see.
    """

    method: str = ""
    rows: int | None = None
    """Rows that were fitted."""
    rank: int | None = None
    condition: float | None = None
    residual: float | None = None
    residual_heldout: float | None = None
    coverage: float | None = None
    """Fraction of the new tokens among the fitted rows."""
    distance_from_identity: float | None = None
    """‖P − I‖ / ‖I‖, Frobenius."""
    solver: str | None = None
    residual_heldout_shared: float | None = None
    residual_heldout_composed: float | None = None
    residual_heldout_by_script: Mapping[str, float] = field(default_factory=dict)
    residual_heldout_by_method: Mapping[str, float | None] = field(default_factory=dict)
    """Of each method that was tried, where there were several."""
    norms_shared: Mapping[str, float] = field(default_factory=dict)
    """Quantiles of the row norms of the result."""
    norms_composed: Mapping[str, float] = field(default_factory=dict)
    fit_seconds: float = 0.0
    write_seconds: float = 0.0


@dataclass(frozen=True)
class PropagationResult:
    """Result of `propagate`."""

    method: str
    fits: Mapping[str, ProjectionFit]
    """By embedding matrix."""
    special_tokens_kept: int = 0
    """Special tokens that have the instruct model's own rows."""
    layers_changed: int = 0
    """Weights outside the embedding matrices that changed."""
    bytes_written: int = 0
    chat_tokens: int | None = None
    """Length of the test conversation in new tokens; `None` without a chat template."""
