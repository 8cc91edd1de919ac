"""What was done: for each room of the walk its cost and one sentence with the number that matters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lep.reporting import formatting as rounding
from lep.reporting.i18n import in_language, many, say
from lep.reporting.run_data import Facts, Room
from lep.results.evaluation import Evaluated
from lep.results.stages import (
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
    found = [(code, item) for one in numbers for code, item in one.languages.items()]
    kept = say(" and ").join(
        say("{n} characters {in_language}", n=rounding.magnitude(item.characters_train), in_language=in_language(code))
        for code, item in found
    )
    read = sum(item.documents_read for _, item in found)
    dropped = sum(sum(item.dropped.values()) for _, item in found)
    share = rounding.percent(dropped / read if read else None)
    return say(
        "{kept} to learn from; {share} of {read} documents dropped.", kept=kept, share=share, read=rounding.count(read)
    )


def _retokenized(numbers: Sequence[Retokenized], language: str) -> str:
    one = numbers[0]
    counts = {"kept": rounding.count(one.kept_tokens), "new": rounding.count(one.new_tokens)}
    text = say("{kept} tokens of the base kept, {new} new", **counts)
    change = one.symbols_per_token.get(language)
    if change is None:
        return f"{text}."
    before, after = rounding.symbols_per_token(change.before), rounding.symbols_per_token(change.after)
    return say(
        "{text}; a token {in_language} is {after} symbols, before {before}.",
        text=text,
        in_language=in_language(language),
        after=after,
        before=before,
    )


def _initialized(numbers: Sequence[Initialized], _: str) -> str:
    one = numbers[0]
    return say(
        "{copied} rows copied, {composed} composed, each the mean of {pieces} old rows on average.",
        copied=rounding.count(one.copied),
        composed=rounding.count(one.composed),
        pieces=rounding.decimal(one.mean_pieces, 1),
    )


def _pretrained(numbers: Sequence[Pretrained], language: str) -> str:
    one = numbers[0]
    counts = {"n": rounding.magnitude(one.trained_tokens), "speed": rounding.speed(one.tokens_per_second)}
    text = say("{n} tokens, {speed} a second", **counts)
    measured = {point.step: point.bits_per_byte.get(language) for point in one.curve}
    first, best = measured.get(0), measured.get(one.best_step)
    if first is None or best is None:
        return f"{text}."
    change = f"{rounding.bits_per_byte(first)} → {rounding.bits_per_byte(best)}"
    return say(
        "{text}; bits per byte {in_language} {change}.", text=text, in_language=in_language(language), change=change
    )


def _tuned(numbers: Sequence[Tuned], _: str) -> str:
    one = numbers[0]
    counts = {"n": rounding.count(one.examples), "tokens": rounding.magnitude(one.trained_tokens)}
    return _with_loss(say("{n} conversations, {tokens} tokens", **counts), one.losses)


def _calibrated(numbers: Sequence[Calibrated], _: str) -> str:
    one = numbers[0]
    counts = {"kept": rounding.count(one.kept), "answers": rounding.count(one.answers)}
    text = say("{kept} of the instruct model's own {answers} answers kept", **counts)
    if copies := one.examples - one.kept:
        text += say(", {n} copy tasks", n=rounding.count(copies))
    return _with_loss(text, one.losses)


def _propagated(numbers: Sequence[Propagated], _: str) -> str:
    text = many(
        "{n} model: {methods}", "{n} models: {methods}", len(numbers), methods=", ".join(one.method for one in numbers)
    )
    for one in numbers:
        for table, fit in one.tables.items():
            left = fit.residual_heldout if fit.residual_heldout is not None else fit.residual
            if one.method == "conversion" and left is not None:
                told = {"text": text, "share": rounding.percent(left, 0), "table": table}
                if fit.residual_heldout is None:
                    return say("{text}; of the difference to close, {share} is left on fitted rows ({table}).", **told)
                return say("{text}; of the difference to close, {share} is left on rows not fitted ({table}).", **told)
    return f"{text}."


def _evaluated(numbers: Sequence[Evaluated], _: str) -> str:
    models = numbers[0].models
    scores = [score for model in models.values() if model.skills and (score := model.skills.get("all"))]
    text = many("{n} model", "{n} models", len(models))
    if not scores:
        return f"{text}."
    return say("{text}, {items} skill items each.", text=text, items=rounding.count(max(one.items for one in scores)))


def _with_loss(text: str, losses: Sequence[Loss]) -> str:
    if not losses:
        return f"{text}."
    first, last = rounding.decimal(losses[0].loss), rounding.decimal(losses[-1].loss)
    return say("{text}; loss {first} → {last}.", text=text, first=first, last=last)


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
