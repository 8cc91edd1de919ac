"""Tables and sentences of `advise`: the terminal shows both, the manifest keeps the sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lep.core.vocabulary_sizing import (
    MIN_DOUBLING_GAIN,
    MIN_OCCURRENCES,
    MIN_TOTAL_GAIN,
    MIN_TRAINED_FRACTION,
    PAD_TO_MULTIPLE_OF,
)
from lep.reporting.formatting import (
    NOT_MEASURED,
    format_characters_per_token,
    format_count,
    format_decimal,
    format_magnitude,
    format_percent,
    format_ratio,
)
from lep.reporting.i18n import language_name
from lep.results.advice import AdviceResult, LimitingFactor, SizeTradeoff, TextCounts


@dataclass(frozen=True)
class SizeTable:
    """Sizes × measures, rounded."""

    title: str
    headings: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    recommended_row: int
    """Index of the row with the recommended size."""


def build_size_tables(result: AdviceResult) -> tuple[SizeTable, SizeTable]:
    """Build the tables of compression by language and of gains and costs."""
    recommended = result.points.index(result.recommended)
    sizes = [format_count(point.new_tokens) if point.new_tokens else "none" for point in result.points]
    rows = list(zip(sizes, result.points, strict=True))
    measures = ("characters per token", "bytes per token", "tokens per word")
    compression = (f"{language}: {measure}" for language in result.texts for measure in measures)
    costs = ("generation", "parameters", "of the model", "memory") if result.model else ()
    training = (f"seen {MIN_OCCURRENCES} times", "training tokens needed")
    return (
        SizeTable(
            "Compression of held-out text",
            ("new tokens", "vocabulary", *compression),
            tuple(
                (size, format_count(point.vocabulary_size), *_build_compression_cells(point)) for size, point in rows
            ),
            recommended,
        ),
        SizeTable(
            "Gains and costs",
            ("new tokens", "fewer tokens", "prefill", *costs, *training),
            tuple((size, *_build_gain_cells(point)) for size, point in rows),
            recommended,
        ),
    )


def explain_recommendation(result: AdviceResult) -> tuple[str, ...]:
    """Explain the recommendation, one sentence for each reason."""
    recommendation = result.recommendation
    reason = _LIMIT_EXPLANATIONS[recommendation.limit](result, result.find_point(recommendation.limiting_size))
    if recommendation.new_tokens:
        return (_describe_extension(result), _describe_compression(result), _describe_speed(result), reason)
    return ("Do not extend the base for this text.", _describe_base(result), reason)


def list_assumptions(result: AdviceResult) -> tuple[str, ...]:
    """List the assumptions behind the expected gains and costs, one sentence each."""
    model = result.model
    assumptions = (
        f"Measured on held-out text: {', '.join(map(_describe_text_amount, result.texts.items()))}.",
        "Prefill: the time is arithmetic in the layers, equal for each token; the output embeddings are not needed. "
        "Speed in characters grows with characters per token.",
        f"Occurrences are counted in the training text, {_describe_training_tokens(result)}. "
        f"{format_percent(MIN_TRAINED_FRACTION, 0)} of the new tokens should occur at least {MIN_OCCURRENCES} times to "
        "be trained (arXiv 2004.02334).",
    )
    if model is None:
        return (
            *assumptions,
            "The base is only a tokenizer. Set hidden_size=4096 tie_word_embeddings=false num_parameters=8.0e9, or the "
            "values of its model, to get the expected speed of generation and the cost of the embeddings.",
        )
    return (
        *assumptions,
        "Generation, batch size 1: the time per token is the time to read all weights, "
        f"{'the shared embedding matrix included' if model.tied else 'without the input embeddings'}. Speed in "
        "characters grows with characters per token and falls with the rows of the output embeddings. Attention to "
        "earlier tokens is ignored; fewer tokens make it cheaper.",
        f"Costs: {'one embedding matrix' if model.tied else 'two embedding matrices'} of width "
        f"{format_count(model.hidden_size)}, rows padded to a multiple of {PAD_TO_MULTIPLE_OF}, in bfloat16, in a "
        f"model of {format_magnitude(model.num_parameters)} parameters.",
    )


def _describe_text_amount(item: tuple[str, TextCounts]) -> str:
    language, text = item
    return f"{format_count(text.characters)} characters of {language_name(language)}"


def _build_compression_cells(point: SizeTradeoff) -> tuple[str, ...]:
    return tuple(
        format_decimal(value)
        for language in point.compression.values()
        for value in (language.characters_per_token, language.bytes_per_token, language.tokens_per_word)
    )


def _build_gain_cells(point: SizeTradeoff) -> tuple[str, ...]:
    cost: tuple[str, ...] = ()
    if point.cost:
        cost = (
            format_ratio(point.decode_speedup, 1),
            f"{point.cost.parameters / 1e6:+,.1f} M",
            f"{100 * point.cost.parameter_fraction:+.1f} %",
            f"{point.cost.bytes / 1e6:+,.0f} MB",
        )
    if not point.new_tokens:
        return (NOT_MEASURED,) * (4 + len(cost))
    return (
        format_percent(point.token_reduction),
        format_ratio(point.prefill_speedup, 1),
        *cost,
        format_percent(point.trained_fraction),
        f"{point.training_tokens_needed / 1e6:,.1f} M" if point.training_tokens_needed else "more text",
    )


def _describe_extension(result: AdviceResult) -> str:
    point = result.recommended
    new, size = format_count(point.new_tokens), format_count(point.vocabulary_size)
    if result.kind == "optimized":
        kept = format_count(point.vocabulary_size - point.new_tokens)
        return f"Prune the base to {kept} tokens and add {new}, {size} in all."
    return f"Add {new} tokens to the base, {size} in all."


def _describe_compression(result: AdviceResult) -> str:
    before = result.base.compression
    changes = [
        f"{format_characters_per_token(compression.characters_per_token)} characters per token in "
        f"{language_name(language)}, before {format_characters_per_token(before[language].characters_per_token)}"
        for language, compression in result.recommended.compression.items()
        if language in result.language_weights
    ]
    return f"The text takes {format_percent(result.recommended.token_reduction, 0)} fewer tokens: {'; '.join(changes)}."


def _describe_speed(result: AdviceResult) -> str:
    point = result.recommended
    prefill = f"{format_decimal(point.prefill_speedup)} times as fast"
    if point.cost is None or point.decode_speedup is None:
        return f"Prefill is expected to be {prefill}."
    change = "grow" if point.cost.parameters >= 0 else "shrink"
    return (
        f"Generation is expected to be {format_decimal(point.decode_speedup)} times as fast and prefill {prefill}; the "
        f"embeddings {change} by {format_magnitude(abs(point.cost.parameters))} parameters, "
        f"{format_percent(abs(point.cost.parameter_fraction))} of the model."
    )


def _describe_base(result: AdviceResult) -> str:
    languages = [
        f"{format_characters_per_token(compression.characters_per_token)} characters per token in "
        f"{language_name(language)}"
        for language, compression in result.base.compression.items()
        if language in result.language_weights
    ]
    return f"It already has {', '.join(languages)}."


def _further_reduction(result: AdviceResult, point: SizeTradeoff) -> float:
    """Return the fraction of tokens that a size saves relative to the recommended one."""
    return 1 - (1 - point.token_reduction) / (1 - result.recommended.token_reduction)


def _explain_small_gain(result: AdviceResult, point: SizeTradeoff) -> str:
    size, minimum = format_count(point.new_tokens), format_percent(MIN_DOUBLING_GAIN, 0)
    if not result.recommendation.new_tokens:
        return (
            f"{size} new tokens would save {format_percent(point.token_reduction)} of the tokens, but the last "
            f"doubling of their number contributes less than {minimum}."
        )
    further = format_percent(_further_reduction(result, point))
    return f"A larger size does not pay: {size} would save a further {further} of the tokens, less than {minimum}."


def _explain_slow_generation(result: AdviceResult, point: SizeTradeoff) -> str:
    speed, size = format_decimal(point.decode_speedup), format_count(point.new_tokens)
    if result.recommendation.new_tokens:
        return (
            f"A larger size does not pay: with {size}, generation is only {speed} times as fast, since the output "
            "embeddings grow."
        )
    return (
        f"{size} new tokens would save {format_percent(point.token_reduction)} of the tokens, but generation would be "
        f"{speed} times as fast, slower than with fewer or none, since the output embeddings grow."
    )


def _explain_rare_tokens(result: AdviceResult, point: SizeTradeoff) -> str:
    reduction, further = point.token_reduction, ""
    if result.recommendation.new_tokens:
        reduction, further = _further_reduction(result, point), "a further "
    trained, required = (format_percent(share, 0) for share in (point.trained_fraction, MIN_TRAINED_FRACTION))
    explanation = (
        f"{format_count(point.new_tokens)} new tokens would save {further}{format_percent(reduction)} of the tokens, "
        f"but only {trained} of them would occur {MIN_OCCURRENCES} times in training, "
        f"{_describe_training_tokens(result)}; {required} should. "
    )
    if point.training_tokens_needed is None:
        return f"{explanation}Give more text."
    needed = format_magnitude(point.training_tokens_needed)
    return f"{explanation}That takes about {needed} training tokens (tokens=)."


def _explain_covered_text(result: AdviceResult, point: SizeTradeoff) -> str:
    if not point.new_tokens:
        return "The text yields no new token."
    return (
        f"Even {format_count(point.new_tokens)} new tokens would save only {format_percent(point.token_reduction)} of "
        f"the tokens, less than {format_percent(MIN_TOTAL_GAIN, 0)}."
    )


def _explain_end_of_sweep(result: AdviceResult, point: SizeTradeoff) -> str:
    return "No larger size was tried. A larger one may pay (max_added_tokens=), if the text yields enough tokens."


def _describe_training_tokens(result: AdviceResult) -> str:
    if result.training_tokens:
        return f"scaled to {format_magnitude(result.training_tokens)} tokens"
    return "in one epoch"


_LIMIT_EXPLANATIONS: Mapping[LimitingFactor, Callable[[AdviceResult, SizeTradeoff], str]] = {
    "text": _explain_small_gain,
    "speed": _explain_slow_generation,
    "occurrences": _explain_rare_tokens,
    "covered": _explain_covered_text,
    "sweep": _explain_end_of_sweep,
}
"""Why no larger size is recommended, by `lep.results.advice.LimitingFactor`."""
