"""Models are measured in turns with the reference, and what is finished is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lep.config.efficiency import EfficiencySettings
from lep.errors import DataError, UsageError
from lep.evaluation.efficiency import measure as efficiency
from lep.evaluation.efficiency.measure import measure_efficiency
from lep.evaluation.efficiency.throughput import Throughput
from lep.results.efficiency import EfficiencyResults, ThroughputProtocol

SETTINGS = EfficiencySettings(language="ru", batch_size=2, prompt_tokens=8, generated_tokens=3)


@pytest.fixture(scope="module")
def models(make_model: Callable[..., Path], tokenizers, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    kinds = {"old": "byte_level", "new": "russian_byte_level", "other": "metaspace"}
    return {name: make_model(root / name, tokenizers[kind]) for name, kind in kinds.items()}


def measure(
    models: dict[str, Path], texts: dict[str, list[str]], out: Path, settings: EfficiencySettings = SETTINGS
) -> EfficiencyResults:
    return measure_efficiency(settings, models, texts, reference="old", dtype="float32", out=out)


def test_each_pair_is_measured_in_turns_and_kept(models, texts, tmp_path, monkeypatch) -> None:
    order: list[str] = []
    original = efficiency.measure_throughput

    def record_order(model: Any, prompts: Any, *, new_tokens: int) -> Throughput:
        order.append(Path(model.name_or_path).name)
        if len(order) == 16:
            raise KeyboardInterrupt
        return original(model, prompts, new_tokens=new_tokens)

    monkeypatch.setattr(efficiency, "measure_throughput", record_order)
    short = {language: documents[:40] for language, documents in texts.items()}
    with pytest.raises(KeyboardInterrupt):
        measure(models, short, tmp_path)
    assert order[:14] == ["old", "new", *["old", "new", "new", "old"] * 3]  # the first of each is the warm-up
    order.clear()
    results = measure(models, short, tmp_path)
    assert order.count("new") == 0 and order.count("other") == 7  # the first pair is not measured again
    assert results.models.keys() == models.keys() and results.ratios.keys() == {"new", "other"}
    assert replace(results.settings, device="", threads=0) == ThroughputProtocol(
        language="ru", batch_size=2, prompt_tokens=8, generated_tokens=3, rounds=6, device="", threads=0
    )


def test_a_model_alone_is_measured_without_ratios(models, texts, tmp_path) -> None:
    results = measure({"old": models["old"]}, {"ru": texts["ru"][:9]}, tmp_path)
    assert results.ratios == {} and results.models["old"].texts["ru"].decode.value > 0


def test_prompts_that_exceed_the_context_are_an_error(models, texts, tmp_path) -> None:
    texts = {"ru": texts["ru"][:200]}
    with pytest.raises(UsageError, match=r"prompts and output have 513 tokens, but the model has 512 positions"):
        measure(models, texts, tmp_path, SETTINGS.model_copy(update={"prompt_tokens": 510}))
    assert (
        measure({"old": models["old"]}, texts, tmp_path, SETTINGS.model_copy(update={"prompt_tokens": 509}))
        .models["old"]
        .context.tokens
        == 512
    )


def test_a_text_that_is_too_short_is_an_error_before_a_model_is_loaded(models, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(efficiency, "load_model", lambda *_, **__: pytest.fail("a model was loaded"))
    with pytest.raises(DataError, match=r"2 prompts of 8 tokens .* 'ru' has only \d+ tokens of old; raise"):
        measure(models, {"ru": ["кот"]}, tmp_path)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU")
def test_an_accelerator_holds_one_model_at_a_time(models, texts, tmp_path) -> None:
    results = measure(models, {"ru": texts["ru"][:40]}, tmp_path)
    peaks = [model.memory.peak_bytes or 0 for model in results.models.values()]
    for model, peak in zip(results.models.values(), peaks, strict=True):
        assert model.memory.weight_bytes < peak and model.texts["ru"].decode.value > 0
    assert torch.cuda.memory_allocated() < min(peaks)
