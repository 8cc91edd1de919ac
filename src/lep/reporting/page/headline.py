"""The result compared with its reference, measure by measure, each with a verdict: better, worse or the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lep.reporting import formatting
from lep.reporting.i18n import format_in_language, gettext, language_name
from lep.reporting.run_data import RunData
from lep.reporting.tables.cells import classify_change, verdict_label
from lep.results.evaluation import ModelEvaluation


@dataclass(frozen=True)
class MeasureComparison:
    """One measure of the result and of its reference."""

    measure: str
    result: str
    reference: str
    """Empty: there is nothing to compare with."""
    ratio: str
    """Result / reference, or the change in percent where lower is better."""
    phrase: str
    """The clause of the summary, without the verdict."""
    verdict: str
    """better · worse · the same; empty without a reference."""
    is_significant: bool = True
    """Whether the difference is larger than the interval."""
    improvement_ratio: float | None = None
    """How many times as good as the reference: above 1 is better for every measure."""

    @property
    def verdict_text(self) -> str:
        """The verdict, with a note if the difference is not significant."""
        label = verdict_label(self.verdict)
        return label if self.is_significant else gettext("{verdict}, within the interval", verdict=label)

    @property
    def severity(self) -> str:
        """The color class: better, worse or neutral."""
        return self.verdict if self.is_significant and self.verdict in ("better", "worse") else "neutral"


@dataclass(frozen=True)
class OutcomeGroup:
    """The measures of the summary with the same outcome."""

    severity: str
    label: str
    phrases: tuple[str, ...]


def build_headline(run_data: RunData) -> tuple[MeasureComparison, ...]:
    """Compare the result with its reference: characters per token, speed, bits per byte, skills and benchmark."""
    models = run_data.evaluation.models
    result = models[run_data.result_model]
    reference = None if run_data.result_model == run_data.reference_model else models[run_data.reference_model]
    others = [language for language in run_data.evaluation.languages() if language != run_data.target_language]
    comparisons = [
        _compare_characters_per_token(result, reference, run_data),
        _compare_speed(result, reference, run_data),
        *(_compare_bits_per_byte(result, reference, language) for language in (run_data.target_language, *others)),
        _compare_skills(result, reference),
        _compare_benchmark(run_data),
    ]
    return tuple(comparison for comparison in comparisons if comparison is not None)


def group_by_outcome(comparisons: Sequence[MeasureComparison]) -> tuple[OutcomeGroup, ...]:
    """Group the comparisons by outcome: better, worse, no clear difference, or without a reference."""
    labels = {
        "better": gettext("Better"),
        "worse": gettext("Worse"),
        "neutral": gettext("No clear difference"),
        "": gettext("Measured"),
    }
    groups = (
        OutcomeGroup(
            severity,
            label,
            tuple(item.phrase for item in comparisons if (item.severity if item.verdict else "") == severity),
        )
        for severity, label in labels.items()
    )
    return tuple(group for group in groups if group.phrases)


def _compare_characters_per_token(
    result: ModelEvaluation, reference: ModelEvaluation | None, run_data: RunData
) -> MeasureComparison | None:
    language = run_data.target_language
    value = result.characters_per_token.get(language)
    reference_value = reference.characters_per_token.get(language) if reference else None
    return _build_comparison(
        gettext("characters per token, {language}", language=language_name(language)),
        (value, reference_value),
        formatting.format_characters_per_token,
        phrase=gettext(
            "{ratio} the characters per token {in_language}",
            ratio=formatting.format_ratio(value, reference_value),
            in_language=format_in_language(language),
        ),
    )


def _compare_speed(
    result: ModelEvaluation, reference: ModelEvaluation | None, run_data: RunData
) -> MeasureComparison | None:
    """Compare by the ratio that was measured in turns, where there is one: it has an interval."""
    speed = result.speed.characters_per_second if result.speed else None
    reference_speed = reference.speed.characters_per_second if reference and reference.speed else None
    paired = run_data.evaluation.compute_speedup(run_data.result_model, reference=run_data.reference_model)
    ratio = formatting.format_ratio(paired.ratio, 1) if paired else formatting.format_ratio(speed, reference_speed)
    comparison = _build_comparison(
        gettext("characters per second"),
        (speed, reference_speed),
        formatting.format_rate,
        phrase=gettext("{ratio} the generation speed", ratio=ratio),
        is_significant=paired is None or classify_change(paired) != "noise",
    )
    if comparison is None or not comparison.ratio or paired is None:
        return comparison
    return replace(comparison, ratio=ratio, improvement_ratio=paired.ratio)


def _compare_bits_per_byte(
    result: ModelEvaluation, reference: ModelEvaluation | None, language: str
) -> MeasureComparison | None:
    bits = result.bits_per_byte.get(language)
    reference_bits = reference.bits_per_byte.get(language) if reference else None
    comparison = _build_comparison(
        gettext("bits per byte, {language}", language=language_name(language)),
        (bits, reference_bits),
        formatting.format_bits_per_byte,
        phrase=_describe_bits_change(bits, reference_bits, language),
        higher_is_better=False,
    )
    if comparison is None or bits is None or not reference_bits:
        return comparison
    change = formatting.format_signed(bits / reference_bits - 1, formatting.format_percent)
    return replace(comparison, ratio=change)


def _describe_bits_change(bits: float | None, reference_bits: float | None, language: str) -> str:
    if bits is None or not reference_bits:
        return ""
    values = {
        "change": formatting.format_percent(abs(bits / reference_bits - 1)),
        "in_language": format_in_language(language),
    }
    if formatting.format_bits_per_byte(bits) == formatting.format_bits_per_byte(reference_bits):
        return gettext("the same bits per byte {in_language}", **values)
    if bits < reference_bits:
        return gettext("{change} fewer bits per byte {in_language}", **values)
    return gettext("{change} more bits per byte {in_language}", **values)


def _compare_skills(result: ModelEvaluation, reference: ModelEvaluation | None) -> MeasureComparison | None:
    score = (result.skills or {}).get("all")
    reference_score = (reference.skills or {}).get("all") if reference else None
    if score is None:
        return None
    accuracies = (score.accuracy, reference_score.accuracy if reference_score else None)
    is_within_interval = reference_score is not None and (
        reference_score.low <= score.accuracy <= reference_score.high
        or score.low <= reference_score.accuracy <= score.high
    )
    return _build_comparison(
        gettext("skill items correct"),
        accuracies,
        formatting.format_percent,
        phrase=gettext(
            "{result} of skill items correct against {reference}",
            result=formatting.format_percent(accuracies[0]),
            reference=formatting.format_percent(accuracies[1]),
        ),
        is_significant=not is_within_interval,
    )


def _compare_benchmark(run_data: RunData) -> MeasureComparison | None:
    """Compare the Micro-Avg, if no task is missing from it; by the paired difference, where there is one."""
    benchmark = run_data.evaluation.benchmark
    if benchmark is None or run_data.result_model not in benchmark.models:
        return None
    averages = [
        benchmark.models[name].micro_average if name in benchmark.models else None
        for name in (run_data.result_model, run_data.reference_model)
    ]
    average, reference_average = (None if item is None or item.missing else item for item in averages)
    if average is None:
        return None
    differences = benchmark.differences.get(run_data.result_model)
    if differences and differences.micro_average and differences.reference == run_data.reference_model:
        is_significant = classify_change(differences.micro_average) != "noise"
    else:
        is_significant = reference_average is None or (
            average.interval[0] > reference_average.interval[1] or average.interval[1] < reference_average.interval[0]
        )
    is_compared = reference_average is not None and run_data.result_model != run_data.reference_model
    scores = (average.score, reference_average.score if reference_average and is_compared else None)
    return _build_comparison(
        "Darumeru",
        scores,
        formatting.format_score,
        phrase=gettext(
            "Darumeru {result} against {reference}",
            result=formatting.format_score(scores[0]),
            reference=formatting.format_score(scores[1]),
        ),
        is_significant=is_significant,
    )


def _build_comparison(
    measure: str,
    values: tuple[float | None, float | None],
    formatter: formatting.Formatter,
    *,
    phrase: str,
    higher_is_better: bool = True,
    is_significant: bool = True,
) -> MeasureComparison | None:
    """Compare two values; values that are equal after rounding are the same. None: the result was not measured."""
    value, reference = values
    if value is None:
        return None
    if reference is None:
        return MeasureComparison(measure, formatter(value), "", "", f"{measure} {formatter(value)}", "")
    is_same = formatter(value) == formatter(reference)
    improvement = None
    if value > 0 and reference > 0:
        improvement = value / reference if higher_is_better else reference / value
    return MeasureComparison(
        measure=measure,
        result=formatter(value),
        reference=formatter(reference),
        ratio=formatting.format_ratio(value, reference),
        phrase=phrase,
        verdict="the same" if is_same else "better" if (value > reference) == higher_is_better else "worse",
        is_significant=is_same or is_significant,
        improvement_ratio=improvement,
    )
