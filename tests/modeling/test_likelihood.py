"""Bits are summed over every token once, whatever the batches; new tokens are what is not old."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    PhiConfig,
    PreTrainedModel,
)

from lep.modeling import chunked_cross_entropy as cross_entropy
from lep.modeling.likelihood import (
    Likelihood,
    compute_document_bits,
    compute_likelihood,
    compute_total_bits,
    split_into_windows,
)
from lep.modeling.trainable_embeddings import TrainableEmbeddings

VOCAB, PREFIX = 500, 0
NEW = torch.tensor([3, 200, *range(450, 500)])

SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.3,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama untied": LlamaConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, initializer_range=0.3),
    "gemma2": Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0),  # caps logits
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=8),  # scales what it looks up
    "phi": PhiConfig(**SIZES),  # its head has a bias
}
WHOLE_LOGITS = {"gemma2"}


def make(family: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[family], dtype=dtype, attn_implementation="eager").eval()
    if family == "phi":
        torch.nn.init.normal_(model.lm_head.bias)
    return model


def trainable(family: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    return TrainableEmbeddings(make(family, dtype=dtype), new_ids=NEW).eval().causal_lm


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return make("llama")


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    chosen = random.Random(0)
    return [[chosen.randrange(VOCAB) for _ in range(length)] for length in (1, 2, 40, 7, 0, 16, 33, 5, 5, 17, 64, 15)]


@torch.inference_mode()
def naive(model: PreTrainedModel, documents: list[list[int]], *, block: int) -> Likelihood:
    """One token at a time, each with all that precedes it in its window."""
    actual = {False: 0.0, True: 0.0}
    tokens = {False: 0, True: 0}
    mass = 0.0
    for document in documents:
        for at in range(0, len(document), block):
            seen = [PREFIX]
            for token in document[at : at + block]:
                logits = model(input_ids=torch.tensor([seen])).logits[0, -1].double()
                is_new = token in NEW.tolist()
                actual[is_new] -= float(logits.log_softmax(0)[token]) / math.log(2)
                tokens[is_new] += 1
                mass += float(logits.softmax(0)[NEW].sum())
                seen.append(token)
    count = sum(tokens.values())
    return Likelihood(sum(actual.values()), count, actual[True], tokens[True], mass / count)


def assert_same(actual: Likelihood, expected: Likelihood, *, rel: float = 1e-5) -> None:
    assert (actual.tokens, actual.new_tokens) == (expected.tokens, expected.new_tokens)
    assert actual.bits == pytest.approx(expected.bits, rel=rel)
    assert actual.new_token_bits == pytest.approx(expected.new_token_bits, rel=rel)
    assert actual.new_token_probability == pytest.approx(expected.new_token_probability, rel=rel)


@pytest.mark.parametrize("held", [2**27, 3 * VOCAB * 4, 1], ids=["whole", "three", "one"])
@pytest.mark.parametrize("family", CONFIGS)
def test_likelihood_is_that_of_a_loop_over_tokens(family, held, documents, monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_CHUNK_BYTES", held)
    monkeypatch.setattr(cross_entropy, "SOFTMAX_CHUNK_BYTES", held // 2)
    expected = naive(make(family), documents, block=16)
    models = [make(family)] if family == "phi" else [make(family), trainable(family)]
    for model in models:
        assert_same(compute_likelihood(model, documents, new_ids=NEW, prefix_id=PREFIX, sequence_length=16), expected)
    assert compute_total_bits(models[0], documents, prefix_id=PREFIX, sequence_length=16) == pytest.approx(
        expected.bits, rel=1e-5
    )


@pytest.mark.parametrize("block", [1, 16, 512])
def test_the_total_is_that_of_a_loop_over_tokens(model, documents, block) -> None:
    actual = compute_total_bits(model, documents, prefix_id=PREFIX, sequence_length=block)
    assert actual == pytest.approx(naive(model, documents, block=block).bits, rel=1e-5)


def test_half_precision_is_that_of_the_model(documents) -> None:
    expected = naive(make("llama", dtype=torch.bfloat16), documents, block=16)
    for model in (make("llama", dtype=torch.bfloat16), trainable("llama", dtype=torch.bfloat16)):
        assert_same(
            compute_likelihood(model, documents, new_ids=NEW, prefix_id=PREFIX, sequence_length=16), expected, rel=3e-3
        )


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "trainable"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_logits_of_all_tokens_are_never_in_memory_unless_they_must(family, wrapped, documents, monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_CHUNK_BYTES", 3 * VOCAB * 4)
    model = trainable(family) if wrapped else make(family)
    sizes: list[int] = []
    model.get_output_embeddings().register_forward_hook(lambda _, __, logits: sizes.append(logits[..., 0].numel()))
    compute_total_bits(model, documents, prefix_id=PREFIX, sequence_length=16)
    at_most = 8 if not wrapped else 3  # a plain model is probed first, with a few tokens
    assert (max(sizes) <= at_most) is (family not in WHOLE_LOGITS)


def test_new_and_old_tokens_add_up(model, documents) -> None:
    actual = compute_likelihood(model, documents, new_ids=NEW, prefix_id=PREFIX, sequence_length=16)
    old = torch.tensor(sorted(set(range(VOCAB)) - set(NEW.tolist())))
    swapped = compute_likelihood(model, documents, new_ids=old, prefix_id=PREFIX, sequence_length=16)
    assert 0 < actual.new_tokens < actual.tokens == swapped.tokens == actual.new_tokens + swapped.new_tokens
    assert actual.new_token_bits + swapped.new_token_bits == pytest.approx(actual.bits) == pytest.approx(swapped.bits)
    assert (
        0 < actual.new_token_probability < 1
        and actual.new_token_probability + swapped.new_token_probability == pytest.approx(1)
    )
    assert actual.new_token_loss == pytest.approx(swapped.old_token_loss) and actual.old_token_loss == pytest.approx(
        swapped.new_token_loss
    )
    nats = actual.new_token_fraction * actual.new_token_loss + (1 - actual.new_token_fraction) * actual.old_token_loss
    assert nats == pytest.approx(actual.bits / actual.tokens * math.log(2))


def test_without_new_tokens_there_is_no_loss_of_them(model, documents) -> None:
    actual = compute_likelihood(model, documents, new_ids=NEW[:0], prefix_id=PREFIX, sequence_length=16)
    assert (actual.new_token_bits, actual.new_tokens, actual.new_token_probability, actual.new_token_fraction) == (
        0,
        0,
        0,
        0,
    )
    assert actual.new_token_loss is None and actual.old_token_loss is not None
    assert (
        compute_likelihood(model, [[3, 200]], new_ids=NEW, prefix_id=PREFIX, sequence_length=16).old_token_loss is None
    )


def test_batches_do_not_change_the_result(model, documents) -> None:
    together = compute_total_bits(model, documents * 20, prefix_id=PREFIX, sequence_length=16)
    alone = sum(compute_total_bits(model, [document], prefix_id=PREFIX, sequence_length=16) for document in documents)
    shuffled = random.Random(1).sample(documents * 20, len(documents) * 20)
    assert together == pytest.approx(20 * alone, rel=1e-5)
    assert together == pytest.approx(
        compute_total_bits(model, shuffled, prefix_id=PREFIX, sequence_length=16), rel=1e-6
    )


def test_every_token_is_reported_once(model, documents) -> None:
    amounts: list[float] = []
    compute_total_bits(model, documents, prefix_id=PREFIX, sequence_length=16, advance=amounts.append)
    assert sum(amounts) == sum(map(len, documents))


def test_a_uniform_model_needs_log_vocab_bits(documents) -> None:
    model = make("llama untied")
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    actual = compute_likelihood(model, documents, new_ids=NEW, prefix_id=PREFIX, sequence_length=16)
    assert actual.bits == pytest.approx(math.log2(VOCAB) * sum(map(len, documents)))
    assert actual.new_token_probability == pytest.approx(len(NEW) / VOCAB)


def test_windows_cover_each_document_once(documents) -> None:
    actual = split_into_windows(documents, prefix_id=-1, sequence_length=16)
    assert all(window[0] == -1 and 2 <= len(window) <= 17 for window in actual)
    assert [id_ for window in actual for id_ in window[1:]] == [id_ for document in documents for id_ in document]
    assert all(len(a) == 17 or b for a, b in pairwise(actual))


def test_the_bits_of_a_document_are_its_own(model, documents) -> None:
    actual = compute_document_bits(model, documents, prefix_id=PREFIX, sequence_length=16)
    alone = [compute_total_bits(model, [document], prefix_id=PREFIX, sequence_length=16) for document in documents]
    assert actual == pytest.approx(alone, rel=1e-5) and actual[documents.index([])] == 0
    assert compute_document_bits(model, [], prefix_id=PREFIX, sequence_length=16) == []
