"""Held-out measurements: by language, with a score by the mixture, and what they say of new tokens."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from lep.core.metrics import bits_per_byte
from lep.modeling.likelihood import compute_likelihood
from lep.training.validation import MIN_NEW_TOKEN_FRACTION, ValidationSet, format_metrics


@pytest.fixture(scope="module")
def tokenizer(tokenizers) -> Any:
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


@pytest.fixture(scope="module")
def model(tokenizer) -> LlamaForCausalLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        return LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), initializer_range=0.2, **sizes)).eval()


@pytest.fixture(scope="module")
def validation_set(tokenizer, texts) -> ValidationSet:
    documents = {language: [" ".join(texts[language][:20])] for language in ("ru", "en")}
    russian = tokenizer(documents["ru"][0], add_special_tokens=False)["input_ids"]
    english = set(tokenizer(documents["en"][0], add_special_tokens=False)["input_ids"])
    new_ids = torch.tensor(sorted(set(russian) - english))
    return ValidationSet(documents, tokenizer, new_ids, {"ru": 3.0, "en": 1.0}, sequence_length=64)


def test_metrics_are_by_language_and_the_score_is_by_the_mixture(validation_set, model, tokenizer) -> None:
    metrics = validation_set.compute_metrics(model)
    text = validation_set.texts["ru"][0]
    expected = compute_likelihood(
        model,
        [tokenizer(text, add_special_tokens=False)["input_ids"]],
        new_ids=validation_set.new_ids,
        prefix_id=tokenizer.bos_token_id,
        sequence_length=64,
    )
    bits = metrics["bits_per_byte"]
    assert bits["ru"] == pytest.approx(bits_per_byte([text], bits=expected.bits))
    assert metrics["score"] == pytest.approx((3 * bits["ru"] + bits["en"]) / 4)
    assert metrics["new_token_loss"] == {"ru": pytest.approx(expected.new_token_loss)}
    assert metrics["new_token_fraction"]["ru"] == expected.new_token_fraction > MIN_NEW_TOKEN_FRACTION
    assert metrics["generated_new_fraction"].keys() == {"ru"} and metrics["new_token_fraction"]["en"] == 0.0


def test_a_language_outside_the_mixture_has_no_weight(validation_set, model) -> None:
    only_russian = ValidationSet(
        validation_set.texts, validation_set.tokenizer, validation_set.new_ids, {"ru": 2.0}, sequence_length=64
    )
    metrics = only_russian.compute_metrics(model)
    assert metrics["score"] == metrics["bits_per_byte"]["ru"] != metrics["bits_per_byte"]["en"]


def test_without_new_tokens_only_bits_are_measured(validation_set, model) -> None:
    without = ValidationSet(
        validation_set.texts,
        validation_set.tokenizer,
        torch.empty(0, dtype=torch.int64),
        validation_set.mixture,
        sequence_length=64,
    )
    assert without.compute_metrics(model).keys() == {"score", "bits_per_byte"}


def test_the_initial_loss_is_the_least_of_the_languages(validation_set, model) -> None:
    loss = validation_set.compute_initial_loss(model)
    by_language = []
    for documents in validation_set.texts.values():
        one = ValidationSet(
            {"one": documents}, validation_set.tokenizer, validation_set.new_ids, {"one": 1.0}, sequence_length=64
        )
        by_language.append(one.compute_initial_loss(model))
    assert loss == min(by_language) < max(by_language)
    assert abs(loss - log(model.config.vocab_size)) < 2


def test_metrics_are_one_line(validation_set, model) -> None:
    metrics = {
        "score": 1.0,
        "bits_per_byte": {"ru": 1.25, "en": 0.5},
        "new_token_fraction": {"ru": 0.4, "en": 0.0},
        "new_token_probability": {"ru": 0.3, "en": 0.0},
        "new_token_loss": {"ru": 2.5},
        "old_token_loss": {"ru": 1.5, "en": 1.0},
        "generated_new_fraction": {"ru": 0.25},
    }
    assert format_metrics(metrics) == (
        "held-out bits per byte: ru 1.2500, en 0.5000; ru: 40% of the tokens are new, with a loss of 2.50 nats (other "
        "tokens 1.50); the model gives them 30% probability and generates 25%"
    )
    assert format_metrics({"bits_per_byte": {"ru": 1.0}}) == "held-out bits per byte: ru 1.0000"
    assert "ru" in format_metrics(validation_set.compute_metrics(model))
