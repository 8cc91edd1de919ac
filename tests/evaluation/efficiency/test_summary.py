"""Ratios are formed round by round, and characters are tokens times characters per token."""

from __future__ import annotations

from dataclasses import replace

import pytest
from transformers import AutoTokenizer

from lep.evaluation.efficiency.compression import Compression, measure_compression
from lep.evaluation.efficiency.summary import ModelMeasurements, PairMeasurements, summarize_efficiency
from lep.evaluation.efficiency.throughput import Throughput
from lep.results.efficiency import ContextLength, EfficiencyResults, MemorySummary, ThroughputProtocol
from lep.results.statistics import MeasuredValue, Ratio

PROTOCOL = ThroughputProtocol("ru", batch_size=2, prompt_tokens=8, generated_tokens=3, rounds=6, device="cpu")


def make_pair(start: float, end: float) -> PairMeasurements:
    """`new` is twice as fast as `old` in tokens, in rounds of a machine that slows down."""
    memory = MemorySummary(weight_bytes=100, kv_cache_bytes_per_token=10.0, kv_cache_fixed_bytes=0.0)
    speeds = [start + (end - start) * i / 5 for i in range(6)]
    return {
        name: ModelMeasurements(
            memory, ContextLength(512), tuple(Throughput(10 * factor * speed, factor * speed, None) for speed in speeds)
        )
        for name, factor in (("new", 2.0), ("old", 1.0))
    }


@pytest.fixture(scope="module")
def compress(tokenizers):
    def compress(texts: dict[str, list[str]]) -> dict[str, dict[str, Compression]]:
        names = {"old": "byte_level", "new": "russian_byte_level"}
        return {
            name: measure_compression(AutoTokenizer.from_pretrained(tokenizers[kind]), texts, model_name=name)
            for name, kind in names.items()
        }

    return compress


def summarize(pairs: dict[str, PairMeasurements], compression: dict[str, dict[str, Compression]]) -> EfficiencyResults:
    return summarize_efficiency(pairs, compression, reference="old", protocol=PROTOCOL)


def test_ratios_are_of_rounds_and_characters_are_tokens_times_compression(compress, texts) -> None:
    compression = compress({language: documents[:50] for language, documents in texts.items()})
    results = summarize({"new": make_pair(100.0, 1.0)}, compression)
    ratios = results.ratios["new"]
    assert ratios.reference == "old" and ratios.weight_bytes == Ratio(1.0)
    assert ratios.tokens_per_second.decode == Ratio(2.0, (2.0, 2.0))  # the noise of the machine cancels
    assert results.models["new"].tokens_per_second.decode.interval == (2.0, 200.0)  # and shows here
    assert results.models["new"].tokens_per_second.prefill == MeasuredValue(1010.0, (20.0, 2000.0))
    characters = {name: compression[name]["ru"].characters_per_token.value for name in compression}
    ratio = characters["new"] / characters["old"]
    russian = ratios.texts["ru"]
    assert ratio > 1.5 and russian.characters_per_token.ratio == pytest.approx(ratio)
    assert russian.decode.ratio == russian.prefill.ratio == pytest.approx(2 * ratio)
    assert russian.kv_cache_bytes_per_1000_characters and russian.context_characters
    assert russian.kv_cache_bytes_per_1000_characters.ratio == pytest.approx(1 / ratio)
    assert russian.context_characters.ratio == pytest.approx(ratio)
    text = results.models["new"].texts["ru"]
    assert text.kv_cache_bytes_per_1000_characters == pytest.approx(10 * 1000 / characters["new"])
    assert text.context_characters == pytest.approx(512 * characters["new"])
    assert text.decode.value == pytest.approx(101 * characters["new"])
    assert russian.characters_per_token.interval
    low, high = russian.characters_per_token.interval
    assert low < ratio < high < 1.2 * low


@pytest.mark.parametrize(("count", "has_interval"), [(5, False), (6, True)])
def test_an_interval_of_compression_needs_six_documents(compress, texts, count: int, has_interval: bool) -> None:
    results = summarize({"new": make_pair(1.0, 1.0)}, compress({"ru": texts["ru"][:count]}))
    assert (results.models["new"].texts["ru"].characters_per_token.interval is not None) is has_interval
    assert (results.ratios["new"].texts["ru"].characters_per_token.interval is not None) is has_interval


def test_the_reference_is_summarized_over_the_rounds_of_all_pairs(compress, texts) -> None:
    compression = compress({"ru": texts["ru"][:6]})
    slow, fast = make_pair(1.0, 1.0), make_pair(3.0, 3.0)
    pairs = {"new": slow, "other": {"other": fast["new"], "old": fast["old"]}}
    results = summarize(pairs, compression | {"other": compression["new"]})
    assert results.models["old"].tokens_per_second.decode.value == 2.0  # the median of 6 rounds of 1 and 6 of 3
    assert results.models["other"].tokens_per_second.decode.value == 6.0


def test_what_was_not_measured_has_no_ratio_and_the_peak_is_that_of_all_rounds(compress, texts) -> None:
    def change(model: ModelMeasurements) -> ModelMeasurements:
        rounds = tuple(replace(speed, peak_bytes=i) for i, speed in enumerate(model.throughput))
        return ModelMeasurements(MemorySummary(100), ContextLength(), rounds)

    pair = {name: change(model) for name, model in make_pair(1.0, 1.0).items()}
    results = summarize({"new": pair}, compress({"ru": texts["ru"][:6]}))
    assert results.models["new"].memory == MemorySummary(100, peak_bytes=5)
    assert results.models["new"].texts["ru"].context_characters is None
    assert results.ratios["new"].texts["ru"].kv_cache_bytes_per_1000_characters is None
    assert results.ratios["new"].texts["ru"].context_characters is None
