"""Side effects show where there are any, on the same characters for every tokenizer, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lep.errors import UsageError
from lep.evaluation.side_effects import measure as side_effects
from lep.evaluation.side_effects.measure import (
    SideEffectMeasurements,
    compare_side_effects,
    measure_side_effects,
    split_into_chunks,
)
from lep.modeling.loading import load_model, load_tokenizer
from lep.results.efficiency import SideEffectResults, TextSize
from lep.results.statistics import Difference

TEXT = st.text(st.sampled_from("аб ß\n"), max_size=60)


@given(TEXT, st.integers(1, 20))
def test_chunks_are_the_whole_document(document: str, max_characters: int) -> None:
    chunks = split_into_chunks(document, max_characters=max_characters)
    assert "".join(chunks) == document and all(len(chunk) <= max_characters for chunk in chunks)
    assert all(chunks) or not document
    for chunk, following in pairwise(chunks):
        assert following.startswith(" ") or len(chunk) == max_characters


@pytest.fixture
def models(make_model, tokenizers, tmp_path) -> dict[str, Path]:
    """The same layers with two tokenizers."""
    kinds = {"old": "byte_level", "new": "russian_byte_level"}
    return {name: make_model(tmp_path / name, tokenizers[kind]) for name, kind in kinds.items()}


@pytest.fixture
def few_probes(monkeypatch) -> None:
    monkeypatch.setattr(side_effects, "build_probes", lambda: {"arithmetic": [("1 + 1 = 2\n", "1 + 1 = 3\n")] * 4})


def measure(folder: Path, texts: dict[str, list[str]], name: str = "m") -> SideEffectMeasurements:
    return measure_side_effects(load_model(folder, dtype="float32"), load_tokenizer(folder), texts, model_name=name)


def compare(
    measurements: dict[str, SideEffectMeasurements], texts: dict[str, list[str]], reference: str
) -> SideEffectResults:
    return compare_side_effects(measurements, texts, reference=reference, wrong_script={})


def test_every_model_is_scored_on_the_same_characters(models, texts, few_probes, monkeypatch) -> None:
    scored: list[str] = []
    original = side_effects.tokenize_documents

    def tokenize(tokenizer: Any, documents: Any, **names: Any) -> Any:
        scored.append("|".join(documents))
        return original(tokenizer, documents, **names)

    monkeypatch.setattr(side_effects, "tokenize_documents", tokenize)
    monkeypatch.setattr(side_effects, "MAX_CHUNK_CHARACTERS", 50)
    documents = {"de": [" ".join(texts["en"][:4]), texts["ru"][0]]}
    measurements = {name: measure(folder, documents, name) for name, folder in models.items()}
    assert scored[:2] == scored[2:] and scored[0].count("|") > 3
    assert [len(item.bits["de"]) for item in measurements.values()] == [2, 2]


def test_a_model_that_forgot_a_language_needs_significantly_more_bits(models, texts, few_probes) -> None:
    documents = {"de": texts["en"][:30]}
    old = measure(models["old"], documents)
    worse = replace(old, bits={"de": tuple(bits * 1.1 + i % 2 for i, bits in enumerate(old.bits["de"]))})
    results = compare({"old": old, "same": old, "worse": worse}, documents, "old")
    value = results.models["old"].bits_per_byte["de"]
    assert value.interval and value.interval[0] < value.value < value.interval[1]
    size = sum(len(text.encode()) for text in documents["de"])
    assert value.value == pytest.approx(sum(old.bits["de"]) / size)
    assert results.differences.keys() == {"same", "worse"}
    assert results.differences["same"].bits_per_byte["de"] == Difference(0, (0, 0))
    difference = results.differences["worse"].bits_per_byte["de"]
    assert difference.difference == pytest.approx(0.1 * value.value + 15 / size)
    assert difference.interval
    low, high = difference.interval
    assert 0 < low < difference.difference < high
    assert high - low < value.interval[1] - value.interval[0]  # documents that are hard are so for both
    assert results.texts["de"] == TextSize(documents=30, characters=sum(map(len, documents["de"])), bytes=size)


@pytest.mark.parametrize(("count", "has_interval"), [(5, False), (6, True)])
def test_an_interval_needs_six_documents(models, texts, few_probes, count: int, has_interval: bool) -> None:
    documents = {"de": texts["en"][:count]}
    results = compare({name: measure(folder, documents) for name, folder in models.items()}, documents, "old")
    assert (results.models["old"].bits_per_byte["de"].interval is not None) is has_interval
    assert (results.differences["new"].bits_per_byte["de"].interval is not None) is has_interval


def test_a_chunk_that_is_longer_than_the_context_is_named(models, few_probes) -> None:
    with pytest.raises(UsageError, match=r"1000 characters of 'th' are \d+ tokens of m, which has only 512 positions"):
        measure(models["old"], {"th": ["ก" * 1000]})


def test_the_most_likely_text_is_the_answer(models, monkeypatch) -> None:
    items = [("1 + 1 = 2\n", "1 + 1 = 3\n"), ("2\n", "3\n", "4\n")]
    monkeypatch.setattr(side_effects, "build_probes", lambda: {"sums": items})
    monkeypatch.setattr(side_effects, "compute_document_bits", lambda *_, **__: [1.0, 2.0, 5.0, 5.0, 9.0])
    measurements = measure(models["old"], {})
    assert measurements.correct == {"sums": (True, False)}  # a tie is not right
    probe = compare({"m": measurements}, {}, "m").models["m"].probes["sums"]
    assert (probe.score, probe.items) == (0.5, 2) and 0 < probe.interval[0] < 0.5 < probe.interval[1] < 1
