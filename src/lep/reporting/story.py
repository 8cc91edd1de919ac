"""What was done: for each room of the walk its cost and one sentence with the number that matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lep.reporting import rounding
from lep.reporting.evaluated import Evaluated
from lep.reporting.facts import Facts, Room
from lep.reporting.headline import language_name
from lep.reporting.numbers import (
    Calibrated,
    Collected,
    Initialized,
    Loss,
    Numbers,
    Pretrained,
    Propagated,
    Retokenized,
    Tuned,
)


@dataclass(frozen=True)
class Chapter:
    """One room of the walk; rooms that ran several times are told together."""

    room: str
    sentence: str
    seconds: float
    peak_memory_bytes: int


def story(facts: Facts) -> tuple[Chapter, ...]:
    """The walk as it was walked."""
    names = dict.fromkeys(room.manifest.room for room in facts.rooms)
    return tuple(_chapter([room for room in facts.rooms if room.manifest.room == name], facts) for name in names)


def sentence(numbers: Sequence[Numbers], *, language: str) -> str:
    """What one room did, several times perhaps, with the number that matters; nothing of a room without numbers.

    Args:
        numbers: of one room.
        language: the one that the new vocabulary is for.
    """
    return _SENTENCES[type(numbers[0])](numbers, language) if numbers else ""


def _chapter(rooms: Sequence[Room], facts: Facts) -> Chapter:
    manifests = [room.manifest for room in rooms]
    numbers = [room.numbers for room in rooms if room.numbers is not None]
    return Chapter(
        manifests[0].room,
        sentence(numbers, language=facts.language),
        sum(m.seconds for m in manifests),
        max(m.peak_memory_bytes for m in manifests),
    )


def _collected(numbers: Sequence[Collected], _: str) -> str:
    found = [(language, item) for one in numbers for language, item in one.languages.items()]
    kept = " and ".join(
        f"{rounding.magnitude(item.characters_train)} characters of {language_name(language)}"
        for language, item in found
    )
    read = sum(item.documents_read for _, item in found)
    dropped = sum(sum(item.dropped.values()) for _, item in found)
    share = rounding.percent(dropped / read if read else None)
    return f"{kept} to learn from; {share} of {rounding.count(read)} documents dropped."


def _retokenized(numbers: Sequence[Retokenized], language: str) -> str:
    one = numbers[0]
    text = f"{rounding.count(one.kept_tokens)} tokens of the base kept, {rounding.count(one.new_tokens)} new"
    change = one.symbols_per_token.get(language)
    if change is None:
        return f"{text}."
    before, after = rounding.symbols_per_token(change.before), rounding.symbols_per_token(change.after)
    return f"{text}; a token of {language_name(language)} is {after} symbols, before {before}."


def _initialized(numbers: Sequence[Initialized], _: str) -> str:
    one = numbers[0]
    pieces = rounding.decimal(one.mean_pieces, 1)
    return (
        f"{rounding.count(one.copied)} rows copied, {rounding.count(one.composed)} composed, "
        f"each the mean of {pieces} old rows on average."
    )


def _pretrained(numbers: Sequence[Pretrained], language: str) -> str:
    one = numbers[0]
    text = f"{rounding.magnitude(one.trained_tokens)} tokens, {rounding.speed(one.tokens_per_second)} a second"
    measured = {point.step: point.bits_per_byte.get(language) for point in one.curve}
    first, best = measured.get(0), measured.get(one.best_step)
    if first is None or best is None:
        return f"{text}."
    change = f"{rounding.bits_per_byte(first)} → {rounding.bits_per_byte(best)}"
    return f"{text}; bits per byte in {language_name(language)} {change}."


def _tuned(numbers: Sequence[Tuned], _: str) -> str:
    one = numbers[0]
    text = f"{rounding.count(one.examples)} conversations, {rounding.magnitude(one.trained_tokens)} tokens"
    return f"{text}; loss {_ends(one.losses)}." if one.losses else f"{text}."


def _calibrated(numbers: Sequence[Calibrated], _: str) -> str:
    one = numbers[0]
    text = f"{rounding.count(one.kept)} of the instruct model's own {rounding.count(one.answers)} answers kept"
    if copies := one.examples - one.kept:
        text += f", {rounding.count(copies)} copy tasks"
    return f"{text}; loss {_ends(one.losses)}." if one.losses else f"{text}."


def _propagated(numbers: Sequence[Propagated], _: str) -> str:
    methods = ", ".join(one.method for one in numbers)
    text = f"{len(numbers)} models: {methods}" if len(numbers) > 1 else f"By {methods}"
    for one in numbers:
        for table, fit in one.tables.items():
            left = fit.residual_heldout if fit.residual_heldout is not None else fit.residual
            if one.method == "conversion" and left is not None:
                rows = "rows not fitted" if fit.residual_heldout is not None else "fitted rows"
                return f"{text}; of the difference to close, {rounding.percent(left, 0)} is left on {rows} ({table})."
    return f"{text}."


def _evaluated(numbers: Sequence[Evaluated], _: str) -> str:
    models = numbers[0].models
    scores = [score for model in models.values() if model.skills and (score := model.skills.get("all"))]
    text = f"{len(models)} models" if len(models) > 1 else "One model"
    return f"{text}, {rounding.count(max(score.items for score in scores))} skill items each." if scores else f"{text}."


def _ends(losses: Sequence[Loss]) -> str:
    return f"{rounding.decimal(losses[0].loss)} → {rounding.decimal(losses[-1].loss)}"


_SENTENCES: dict[type, Callable[[Any, str], str]] = {
    Collected: _collected,
    Retokenized: _retokenized,
    Initialized: _initialized,
    Pretrained: _pretrained,
    Tuned: _tuned,
    Propagated: _propagated,
    Calibrated: _calibrated,
    Evaluated: _evaluated,
}
