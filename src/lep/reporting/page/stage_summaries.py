"""What each stage did: its time, its memory and one sentence with its most important number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lep.reporting import formatting
from lep.reporting.i18n import format_in_language, gettext, ngettext
from lep.reporting.run_data import RunData, StageRun
from lep.results.evaluation import EvaluationResult
from lep.results.stages import (
    CalibrationResult,
    CollectionResult,
    InitializationResult,
    LossPoint,
    PretrainingResult,
    PropagationResult,
    RetokenizationResult,
    StageResult,
    TuningResult,
)


@dataclass(frozen=True)
class StageSummary:
    """One stage; all its runs together if it ran several times."""

    stage: str
    sentence: str
    seconds: float
    peak_memory_bytes: int


def stage_summaries(run_data: RunData) -> tuple[StageSummary, ...]:
    """Summarize each stage of a run, in the order of the pipeline."""
    names = dict.fromkeys(run.manifest.stage for run in run_data.stages)
    return tuple(
        _summarize_stage([run for run in run_data.stages if run.manifest.stage == name], run_data) for name in names
    )


def describe_stage(stage: str, results: Sequence[StageResult], *, language: str) -> str:
    """Describe in one sentence what a stage did.

    Args:
        stage: Name of the stage.
        results: One result for each run of the stage.
        language: Code of the language that the new vocabulary is for.

    Returns:
        The sentence in the current locale; an empty text for a stage that has none.
    """
    describe = _DESCRIBERS.get(stage)
    return describe(results, language) if describe and results else ""


def _summarize_stage(runs: Sequence[StageRun], run_data: RunData) -> StageSummary:
    manifests = [run.manifest for run in runs]
    results = [run.result for run in runs if run.result is not None]
    return StageSummary(
        manifests[0].stage,
        describe_stage(manifests[0].stage, results, language=run_data.target_language),
        sum(manifest.seconds for manifest in manifests),
        max(manifest.peak_memory_bytes for manifest in manifests),
    )


def _describe_collection(results: Sequence[CollectionResult], _: str) -> str:
    languages = [(code, counts) for result in results for code, counts in result.languages.items()]
    kept = gettext(" and ").join(
        gettext(
            "{n} characters {in_language}",
            n=formatting.format_magnitude(counts.characters_train),
            in_language=format_in_language(code),
        )
        for code, counts in languages
    )
    read = sum(counts.documents_read for _, counts in languages)
    dropped = sum(sum(counts.dropped.values()) for _, counts in languages)
    return gettext(
        "{kept} for training; {share} of {read} documents dropped.",
        kept=kept,
        share=formatting.format_percent(dropped / read if read else None),
        read=formatting.format_count(read),
    )


def _describe_retokenization(results: Sequence[RetokenizationResult], language: str) -> str:
    result = results[0]
    text = gettext(
        "{kept} base tokens kept, {new} added",
        kept=formatting.format_count(result.kept_tokens),
        new=formatting.format_count(result.new_tokens),
    )
    change = result.characters_per_token.get(language)
    if change is None:
        return f"{text}."
    return gettext(
        "{text}; {after} characters per token {in_language}, {before} before.",
        text=text,
        in_language=format_in_language(language),
        after=formatting.format_characters_per_token(change.after),
        before=formatting.format_characters_per_token(change.before),
    )


def _describe_initialization(results: Sequence[InitializationResult], _: str) -> str:
    result = results[0]
    return gettext(
        "{copied} embedding rows copied, {composed} composed, each the mean of {length} old rows on average.",
        copied=formatting.format_count(result.copied_rows),
        composed=formatting.format_count(result.composed_rows),
        length=formatting.format_decimal(result.mean_segmentation_length, 1),
    )


def _describe_pretraining(results: Sequence[PretrainingResult], language: str) -> str:
    result = results[0]
    text = gettext(
        "{n} tokens, {speed} tokens/s",
        n=formatting.format_magnitude(result.trained_tokens),
        speed=formatting.format_rate(result.tokens_per_second),
    )
    bits_by_step = {point.step: point.bits_per_byte.get(language) for point in result.curve}
    first, best = bits_by_step.get(0), bits_by_step.get(result.best_step)
    if first is None or best is None:
        return f"{text}."
    return gettext(
        "{text}; bits per byte {in_language} {change}.",
        text=text,
        in_language=format_in_language(language),
        change=f"{formatting.format_bits_per_byte(first)} → {formatting.format_bits_per_byte(best)}",
    )


def _describe_tuning(results: Sequence[TuningResult], _: str) -> str:
    result = results[0]
    text = gettext(
        "{n} conversations, {tokens} tokens",
        n=formatting.format_count(result.examples),
        tokens=formatting.format_magnitude(result.trained_tokens),
    )
    return _append_loss(text, result.losses)


def _describe_calibration(results: Sequence[CalibrationResult], _: str) -> str:
    result = results[0]
    text = gettext(
        "{kept} of {answers} answers of the instruct model kept",
        kept=formatting.format_count(result.kept_answers),
        answers=formatting.format_count(result.answers),
    )
    if copy_tasks := result.examples - result.kept_answers:
        text += gettext(", {n} copy tasks", n=formatting.format_count(copy_tasks))
    return _append_loss(text, result.losses)


def _describe_propagation(results: Sequence[PropagationResult], _: str) -> str:
    methods = ", ".join(result.method for result in results)
    text = ngettext("{n} model: {methods}", "{n} models: {methods}", len(results), methods=methods)
    fits = [item for result in results if result.method == "conversion" for item in result.fits.items()]
    for matrix, fit in fits:
        if fit.residual_heldout is not None:
            return gettext(
                "{text}; residual on held-out rows: {residual} ({matrix}).",
                text=text,
                residual=formatting.format_percent(fit.residual_heldout, 0),
                matrix=matrix,
            )
        if fit.residual is not None:
            return gettext(
                "{text}; residual on fitted rows: {residual} ({matrix}).",
                text=text,
                residual=formatting.format_percent(fit.residual, 0),
                matrix=matrix,
            )
    return f"{text}."


def _describe_evaluation(results: Sequence[EvaluationResult], _: str) -> str:
    models = results[0].models
    scores = [score for model in models.values() if model.skills and (score := model.skills.get("all"))]
    text = ngettext("{n} model", "{n} models", len(models))
    if not scores:
        return f"{text}."
    items = formatting.format_count(max(score.items for score in scores))
    return gettext("{text}, {items} skill items each.", text=text, items=items)


def _append_loss(text: str, losses: Sequence[LossPoint]) -> str:
    if not losses:
        return f"{text}."
    first, last = formatting.format_decimal(losses[0].loss), formatting.format_decimal(losses[-1].loss)
    return gettext("{text}; loss {first} → {last}.", text=text, first=first, last=last)


_DESCRIBERS: Mapping[str, Callable[[Any, str], str]] = {
    "collect": _describe_collection,
    "retokenize": _describe_retokenization,
    "initialize": _describe_initialization,
    "pretrain": _describe_pretraining,
    "tune": _describe_tuning,
    "propagate": _describe_propagation,
    "calibrate": _describe_calibration,
    "evaluate": _describe_evaluation,
}
"""By stage; a stage without an entry has no sentence."""
