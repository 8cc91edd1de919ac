"""What each room writes as `numbers` into its manifest, as values: one frozen dataclass a room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from lep.errors import ArtifactError
from lep.results.evaluation import Evaluated


@dataclass(frozen=True)
class CollectedLanguage:
    """What became of the raw text of one language."""

    documents_read: int
    documents_train: int
    documents_heldout: int
    characters_train: int
    characters_heldout: int
    dropped: Mapping[str, int]
    """Documents dropped, by reason."""


@dataclass(frozen=True)
class Collected:
    """Numbers of `collect`."""

    languages: Mapping[str, CollectedLanguage]


@dataclass(frozen=True)
class BeforeAfter:
    """One measure with the old and with the new vocabulary."""

    before: float
    after: float


@dataclass(frozen=True)
class Proof:
    """How many of how many tokens or texts keep a promise, and whether this kind of vocabulary gives it."""

    name: str
    held: int
    of: int
    promised: bool


@dataclass(frozen=True)
class Segmented:
    """One text as tokens of the old and of the new vocabulary."""

    text: str
    before: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True)
class Retokenized:
    """Numbers of `retokenize`."""

    kind: str
    old_tokens: int
    kept_tokens: int
    new_tokens: int
    vocabulary_size: int
    symbols_per_token: Mapping[str, BeforeAfter]
    proofs: tuple[Proof, ...] = ()
    examples: tuple[Segmented, ...] = ()


@dataclass(frozen=True)
class Initialized:
    """Numbers of `initialize`."""

    copied: int
    composed: int
    mean_pieces: float


@dataclass(frozen=True)
class Scored:
    """An average of the benchmark, with its 95 % interval."""

    score: float
    low: float
    high: float


@dataclass(frozen=True)
class Measured:
    """Held-out bits per byte by language at one moment of training, and scores."""

    step: int
    tokens: int
    bits_per_byte: Mapping[str, float]
    benchmark: Mapping[str, Scored] = field(default_factory=dict)
    """By group, and `all`: the mean of all tasks that were asked."""


@dataclass(frozen=True)
class Loss:
    """Mean training loss per token at one step, in nats."""

    step: int
    loss: float


@dataclass(frozen=True)
class Pretrained:
    """Numbers of `pretrain`."""

    trained_tokens: int
    tokens_per_second: float
    best_step: int
    """The measured step that the result is of."""
    curve: tuple[Measured, ...] = ()
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Tuned:
    """Numbers of `tune`."""

    examples: int
    trained_tokens: int
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Calibrated:
    """Numbers of `calibrate`."""

    answers: int
    """Answers of the original instruct model."""
    kept: int
    """Of those, the ones that were graded well enough."""
    examples: int
    """Answers and copy tasks."""
    trained_tokens: int
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True)
class Fit:
    """How the fit of one table went; none: the method fits nothing (swap)."""

    rows: int | None = None
    rank: int | None = None
    condition: float | None = None
    residual: float | None = None
    residual_heldout: float | None = None
    coverage: float | None = None
    distance_from_identity: float | None = None


@dataclass(frozen=True)
class Propagated:
    """Numbers of `propagate`."""

    method: str
    tables: Mapping[str, Fit]


Numbers = Collected | Retokenized | Initialized | Pretrained | Tuned | Propagated | Calibrated | Evaluated

KINDS: dict[str, type[Numbers]] = {
    "collect": Collected,
    "retokenize": Retokenized,
    "initialize": Initialized,
    "pretrain": Pretrained,
    "tune": Tuned,
    "propagate": Propagated,
    "calibrate": Calibrated,
    "evaluate": Evaluated,
}


def parse(raw: Mapping[str, Any], *, room: str, where: Path | None = None) -> Numbers | None:
    """The numbers of a room as a value; none when the room is not one that the page tells about.

    Args:
        raw: `numbers` of the manifest.
        room: the room that wrote them.
        where: the manifest, to name in an error.

    Raises:
        ArtifactError: a number is missing or of the wrong type.
    """
    if room not in KINDS:
        return None
    try:
        return TypeAdapter(KINDS[room]).validate_python(dict(raw))
    except ValidationError as error:
        wrong = [f"numbers.{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        shown = "; ".join(wrong[:5]) + (f"; and {len(wrong) - 5} more" if len(wrong) > 5 else "")
        raise ArtifactError(
            f"{where or room}: these are not the numbers of {room!r} ({shown}); run the room again with this lep"
        ) from None


def parse_evaluation(raw: Mapping[str, Any], *, where: Path | None = None) -> Evaluated:
    """The numbers of `evaluate`, with at least one model; `ArtifactError` otherwise."""
    found = parse(raw, room="evaluate", where=where)
    if not isinstance(found, Evaluated) or not found.models:
        raise ArtifactError(
            f"{where or 'evaluate'}: expected numbers of at least one model, found none; evaluate again"
        )
    return found
