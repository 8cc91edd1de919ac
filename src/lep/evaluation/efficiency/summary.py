"""Summarize measurements of speed and memory: medians, characters per second, and ratios to the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

from lep.core.metrics import median_confidence_interval
from lep.evaluation.bootstrap import BootstrapEstimate
from lep.evaluation.efficiency.compression import Compression
from lep.evaluation.efficiency.throughput import Throughput
from lep.results.efficiency import (
    ContextLength,
    EfficiencyRatios,
    EfficiencyResults,
    MemorySummary,
    ModelEfficiency,
    TextEfficiency,
    TextEfficiencyRatios,
    ThroughputProtocol,
    TokensPerSecond,
    TokensPerSecondRatios,
)
from lep.results.statistics import MeasuredValue, Ratio

_CACHE_CHARACTERS = 1000
"""Characters of text whose cache is reported."""


@dataclass(frozen=True)
class ModelMeasurements:
    """What was measured on one model."""

    memory: MemorySummary
    context: ContextLength
    throughput: tuple[Throughput, ...]
    """One for each round."""


PairMeasurements = dict[str, ModelMeasurements]
"""The reference and another model, measured by turns, by name; the reference alone where there is no other."""


def summarize_efficiency(
    measurements: Mapping[str, PairMeasurements],
    compression: Mapping[str, Mapping[str, Compression]],
    *,
    reference: str,
    protocol: ThroughputProtocol,
) -> EfficiencyResults:
    """Summarize each model, and the ratios of the others to the reference.

    Throughput is the median over rounds, of the reference over the rounds of all pairs, with the interval of
    `lep.core.metrics.median_confidence_interval`. A ratio of throughputs is the median of the ratios of the rounds.
    Characters and bytes per token are bootstrapped over documents, and so is their ratio, on the same resamples.

    Args:
        measurements: By the name of the model that is not the reference.
        compression: By model and text.
        reference: Name of the model that the others are compared with.
        protocol: How speed was measured.

    Returns:
        The efficiency of all models of `compression`.
    """
    models = {
        name: _summarize_model([pair[name] for pair in measurements.values() if name in pair], texts)
        for name, texts in compression.items()
    }
    ratios = {
        name: EfficiencyRatios(
            reference=reference,
            tokens_per_second=TokensPerSecondRatios(
                Ratio(*_median([speedup.prefill for speedup in speedups])),
                Ratio(*_median([speedup.decode for speedup in speedups])),
            ),
            weight_bytes=Ratio(models[name].memory.weight_bytes / models[reference].memory.weight_bytes),
            texts={
                text: _compute_text_ratios(
                    compression[name][text].characters_per_token / compression[reference][text].characters_per_token,
                    models[name].texts[text],
                    models[reference].texts[text],
                    speedups,
                )
                for text in compression[name]
            },
        )
        for name, pair in measurements.items()
        if name != reference
        for speedups in [_compute_speedups(pair[name], pair[reference])]
    }
    return EfficiencyResults(protocol, models, ratios)


def _summarize_model(
    measurements: Sequence[ModelMeasurements], compression: Mapping[str, Compression]
) -> ModelEfficiency:
    """Summarize what was measured on one model, alone or in several pairs."""
    memory, context = measurements[0].memory, measurements[0].context
    rounds = [throughput for measurement in measurements for throughput in measurement.throughput]
    peaks = [throughput.peak_bytes for throughput in rounds if throughput.peak_bytes is not None]
    return ModelEfficiency(
        tokens_per_second=TokensPerSecond(
            MeasuredValue(*_median([throughput.prefill for throughput in rounds])),
            MeasuredValue(*_median([throughput.decode for throughput in rounds])),
        ),
        memory=replace(memory, peak_bytes=max(peaks, default=None)),
        context=context,
        texts={text: _summarize_text(item, rounds, memory, context) for text, item in compression.items()},
    )


def _summarize_text(
    compression: Compression, rounds: Sequence[Throughput], memory: MemorySummary, context: ContextLength
) -> TextEfficiency:
    characters, bytes_ = compression.characters_per_token, compression.bytes_per_token
    per_token = memory.kv_cache_bytes_per_token
    return TextEfficiency(
        characters_per_token=MeasuredValue(characters.value, characters.supported_interval),
        bytes_per_token=MeasuredValue(bytes_.value, bytes_.supported_interval),
        prefill=MeasuredValue(*_median([characters.value * throughput.prefill for throughput in rounds])),
        decode=MeasuredValue(*_median([characters.value * throughput.decode for throughput in rounds])),
        kv_cache_bytes_per_1000_characters=per_token and per_token * _CACHE_CHARACTERS / characters.value,
        context_characters=context.tokens and context.tokens * characters.value,
    )


def _compute_speedups(model: ModelMeasurements, reference: ModelMeasurements) -> list[Throughput]:
    rounds = zip(model.throughput, reference.throughput, strict=True)
    return [Throughput(a.prefill / b.prefill, a.decode / b.decode, None) for a, b in rounds]


def _compute_text_ratios(
    characters: BootstrapEstimate, summary: TextEfficiency, reference: TextEfficiency, speedups: Sequence[Throughput]
) -> TextEfficiencyRatios:
    return TextEfficiencyRatios(
        characters_per_token=Ratio(characters.value, characters.supported_interval),
        prefill=Ratio(*_median([characters.value * speedup.prefill for speedup in speedups])),
        decode=Ratio(*_median([characters.value * speedup.decode for speedup in speedups])),
        kv_cache_bytes_per_1000_characters=_divide(
            summary.kv_cache_bytes_per_1000_characters, reference.kv_cache_bytes_per_1000_characters
        ),
        context_characters=_divide(summary.context_characters, reference.context_characters),
    )


def _divide(value: float | None, reference: float | None) -> Ratio | None:
    """Return the ratio, or `None` where one of the two is 0 or was not measured."""
    return Ratio(value / reference) if value and reference else None


def _median(values: Sequence[float]) -> tuple[float, tuple[float, float]]:
    return median(values), median_confidence_interval(values)
