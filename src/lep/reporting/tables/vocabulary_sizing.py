"""The advice on a vocabulary's size in words and tables: what the terminal shows and the manifest keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from lep.core.vocabulary_sizing import DOUBLING, PADDING, SEEN, SEEN_SHARE, WORTH, Model, Point, Recommendation, Text
from lep.reporting import formatting as rounding
from lep.reporting.i18n import language_name


@dataclass(frozen=True)
class Advised:
    """Numbers of `advise`."""

    kind: str
    tokens: int | None
    """Tokens of training; None: the corpus, read once."""
    shares: Mapping[str, float]
    """Of the mixture's symbols, by language, in any unit."""
    texts: Mapping[str, Text]
    """Held out, of the mixture's languages and of others."""
    model: Model | None
    points: tuple[Point, ...]
    """The base first."""
    recommendation: Recommendation

    @property
    def base(self) -> Point:
        """The base as it is."""
        return self.points[0]

    @property
    def chosen(self) -> Point:
        """The recommended size; the base when it is better left alone."""
        return self.at(self.recommendation.new_tokens)

    def at(self, new_tokens: int) -> Point:
        """One size."""
        return next(point for point in self.points if point.new_tokens == new_tokens)


@dataclass(frozen=True)
class SizeTable:
    """Sizes × measures, rounded; `marked` is the row of the recommended size."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int


def parse_advised(numbers: Mapping[str, Any]) -> Advised:
    """The numbers of the manifest as a value."""
    return TypeAdapter(Advised).validate_python(dict(numbers))


def tables(advised: Advised) -> tuple[SizeTable, SizeTable]:
    """How each size writes the languages, and what it brings and costs."""
    marked = advised.points.index(advised.chosen)
    sizes = [rounding.count(point.new_tokens) if point.new_tokens else "none" for point in advised.points]
    rows = list(zip(sizes, advised.points, strict=True))
    measures = ("symbols per token", "bytes per token", "tokens per word")
    written = (f"{language}: {measure}" for language in advised.texts for measure in measures)
    costs = ("generation", "parameters", "of the model", "memory") if advised.model else ()
    return (
        SizeTable(
            "How held-out text is written",
            ("new tokens", "vocabulary", *written),
            tuple((size, rounding.count(point.vocabulary_size), *_density_cells(point)) for size, point in rows),
            marked,
        ),
        SizeTable(
            "What it brings and costs",
            ("new tokens", "text shorter by", "prefill", *costs, f"seen {SEEN} times", "training tokens needed"),
            tuple((size, *_gain_cells(point)) for size, point in rows),
            marked,
        ),
    )


def why(advised: Advised) -> list[str]:
    """The recommendation and its reasons, a sentence each."""
    found = advised.recommendation
    reason = _AGAINST[found.limit](advised, advised.at(found.at))
    if found.new_tokens:
        return [_extend(advised), _text(advised), _speed(advised), reason]
    return ["Do not extend the base for this text.", _already(advised), reason]


def assumptions(advised: Advised) -> list[str]:
    """What the expectations rest on, a sentence each."""
    model = advised.model
    found = [
        f"Measured on held-out text: {', '.join(map(_amount, advised.texts.items()))}.",
        "Prefill: arithmetic in the layers takes the time, the same for each token, and the head is not needed; its "
        "speed in characters grows with the symbols of a token.",
        f"Occurrences are counted in the train half, {_training(advised)}; of the new tokens, "
        f"{rounding.percent(SEEN_SHARE, 0)} should occur {SEEN} times to be learnt (arXiv 2004.02334).",
    ]
    if model is None:
        return [
            *found,
            "The base is only a tokenizer: width=4096 tied=false parameters=8.0e9, or what its model has, adds the "
            "expected speed of generation and what the tables cost.",
        ]
    return [
        *found,
        "Generation, one text at a time: a token takes the time of reading all weights, "
        f"{'the one table included' if model.tied else 'the embed table left out'}; its speed in characters grows with "
        "the symbols of a token and falls with the rows of the head. Attention to earlier tokens is left out: fewer "
        "tokens make it cheaper.",
        f"Costs: {'one table' if model.tied else 'two tables'} of width {rounding.count(model.width)}, rows padded to "
        f"{PADDING}, in bfloat16, in a model of {rounding.magnitude(model.parameters)} parameters.",
    ]


def _amount(item: tuple[str, Text]) -> str:
    language, text = item
    return f"{rounding.count(text.symbols)} symbols of {language_name(language)}"


def _density_cells(point: Point) -> tuple[str, ...]:
    found = point.languages.values()
    values = ((one.symbols_per_token, one.bytes_per_token, one.tokens_per_word) for one in found)
    return tuple(rounding.decimal(value) for language in values for value in language)


def _gain_cells(point: Point) -> tuple[str, ...]:
    cost: tuple[str, ...] = ()
    if point.cost:
        cost = (
            rounding.ratio(point.generation, 1),
            f"{point.cost.parameters / 1e6:+,.1f} M",
            f"{100 * point.cost.share:+.1f} %",
            f"{point.cost.bytes / 1e6:+,.0f} MB",
        )
    if not point.new_tokens:
        return (rounding.NOTHING,) * (4 + len(cost))
    return (
        rounding.percent(point.shorter),
        rounding.ratio(point.prefill, 1),
        *cost,
        rounding.percent(point.learnt),
        f"{point.enough / 1e6:,.1f} M" if point.enough else "more text",
    )


def _extend(advised: Advised) -> str:
    point = advised.chosen
    new, size = rounding.count(point.new_tokens), rounding.count(point.vocabulary_size)
    if advised.kind == "optimized":
        kept = rounding.count(point.vocabulary_size - point.new_tokens)
        return f"Cut the base to {kept} tokens and extend it by {new}, to {size} in all."
    return f"Extend the base by {new} tokens, to {size} in all."


def _text(advised: Advised) -> str:
    changes = [
        f"{rounding.symbols_per_token(found.symbols_per_token)} symbols per token in {language_name(language)}, "
        f"before {rounding.symbols_per_token(advised.base.languages[language].symbols_per_token)}"
        for language, found in advised.chosen.languages.items()
        if language in advised.shares
    ]
    return f"The text takes {rounding.percent(advised.chosen.shorter, 0)} fewer tokens: {'; '.join(changes)}."


def _speed(advised: Advised) -> str:
    point = advised.chosen
    prefill = f"{rounding.decimal(point.prefill)} times as fast"
    if point.cost is None or point.generation is None:
        return f"Prefill is expected to be {prefill}."
    change = "grow" if point.cost.parameters >= 0 else "shrink"
    return (
        f"Generation is expected to be {rounding.decimal(point.generation)} times as fast and prefill {prefill}; the "
        f"tables {change} by {rounding.magnitude(abs(point.cost.parameters))} parameters, "
        f"{rounding.percent(abs(point.cost.share))} of the model."
    )


def _already(advised: Advised) -> str:
    written = [
        f"{rounding.symbols_per_token(found.symbols_per_token)} symbols per token in {language_name(language)}"
        for language, found in advised.base.languages.items()
        if language in advised.shares
    ]
    return f"As it is, it writes {', '.join(written)}."


def _too_little(advised: Advised, point: Point) -> str:
    size, least = rounding.count(point.new_tokens), rounding.percent(DOUBLING, 0)
    if not advised.recommendation.new_tokens:
        return (
            f"{size} new tokens would shorten the text by {rounding.percent(point.shorter)}, but the last doubling of "
            f"them adds less than {least} to that."
        )
    further = rounding.percent(1 - (1 - point.shorter) / (1 - advised.chosen.shorter))
    return f"More do not pay: {size} would shorten the text by a further {further}, less than {least}."


def _too_slow(advised: Advised, point: Point) -> str:
    speed, size = rounding.decimal(point.generation), rounding.count(point.new_tokens)
    if advised.recommendation.new_tokens:
        return f"More do not pay: with {size}, generation falls back to {speed} times, since the head grows."
    return (
        f"{size} new tokens would shorten the text by {rounding.percent(point.shorter)}, but generation would be "
        f"{speed} times as fast, slower than with fewer or none, since the head grows."
    )


def _too_rare(advised: Advised, point: Point) -> str:
    shorter, further = point.shorter, ""
    if advised.recommendation.new_tokens:
        shorter, further = 1 - (1 - point.shorter) / (1 - advised.chosen.shorter), "a further "
    rare = (
        f"{rounding.count(point.new_tokens)} new tokens would shorten the text by {further}"
        f"{rounding.percent(shorter)}, but only {rounding.percent(point.learnt, 0)} of them would occur {SEEN} times "
        f"in training, {_training(advised)}, where {rounding.percent(SEEN_SHARE, 0)} should: "
    )
    if point.enough is None:
        return f"{rare}give more text."
    return f"{rare}that takes about {rounding.magnitude(point.enough)} training tokens (tokens=)."


def _covered(advised: Advised, point: Point) -> str:
    if not point.new_tokens:
        return "The text yields no new token."
    return (
        f"Even {rounding.count(point.new_tokens)} new tokens would shorten the text by only "
        f"{rounding.percent(point.shorter)}, less than {rounding.percent(WORTH, 0)}."
    )


def _looked_at(advised: Advised, point: Point) -> str:
    return "No larger size was looked at: more may pay (largest=), if the text yields them."


def _training(advised: Advised) -> str:
    return f"scaled to {rounding.magnitude(advised.tokens)} tokens" if advised.tokens else "read once"


_AGAINST: Mapping[str, Callable[[Advised, Point], str]] = {
    "text": _too_little,
    "speed": _too_slow,
    "occurrences": _too_rare,
    "covered": _covered,
    "sweep": _looked_at,
}
"""What speaks against more, in words, by `lep.core.vocabulary_sizing.Limit`."""
