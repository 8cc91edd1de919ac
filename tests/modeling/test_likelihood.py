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
from lep.modeling.likelihood import Likelihood, document_bits, likelihood, total_bits, windows
from lep.modeling.trainable_embeddings import TrainableTables

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


def trainable(family: str, *, dtype: torch.dtype = torch.float32) -> TrainableTables:
    return TrainableTables(make(family, dtype=dtype), new_rows=NEW).eval()


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
    found = {False: 0.0, True: 0.0}
    tokens = {False: 0, True: 0}
    mass = 0.0
    for document in documents:
        for at in range(0, len(document), block):
            seen = [PREFIX]
            for token in document[at : at + block]:
                logits = model(input_ids=torch.tensor([seen])).logits[0, -1].double()
                is_new = token in NEW.tolist()
                found[is_new] -= float(logits.log_softmax(0)[token]) / math.log(2)
                tokens[is_new] += 1
                mass += float(logits.softmax(0)[NEW].sum())
                seen.append(token)
    count = sum(tokens.values())
    return Likelihood(sum(found.values()), count, found[True], tokens[True], mass / count)


def assert_same(found: Likelihood, expected: Likelihood, *, rel: float = 1e-5) -> None:
    assert (found.tokens, found.new_tokens) == (expected.tokens, expected.new_tokens)
    assert found.bits == pytest.approx(expected.bits, rel=rel)
    assert found.new_bits == pytest.approx(expected.new_bits, rel=rel)
    assert found.new_mass == pytest.approx(expected.new_mass, rel=rel)


@pytest.mark.parametrize("held", [2**27, 3 * VOCAB * 4, 1], ids=["whole", "three", "one"])
@pytest.mark.parametrize("family", CONFIGS)
def test_all_is_as_in_a_loop_over_tokens(family, held, documents, monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_BYTES", held)
    monkeypatch.setattr(cross_entropy, "CACHE_BYTES", held // 2)
    expected = naive(make(family), documents, block=16)
    models = [make(family)] if family == "phi" else [make(family), trainable(family)]
    for model in models:
        assert_same(likelihood(model, documents, new_ids=NEW, prefix=PREFIX, block=16), expected)
    assert total_bits(models[0], documents, prefix=PREFIX, block=16) == pytest.approx(expected.bits, rel=1e-5)


@pytest.mark.parametrize("block", [1, 16, 512])
def test_the_total_is_that_of_a_loop_over_tokens(model, documents, block) -> None:
    found = total_bits(model, documents, prefix=PREFIX, block=block)
    assert found == pytest.approx(naive(model, documents, block=block).bits, rel=1e-5)


def test_half_precision_is_that_of_the_model(documents) -> None:
    expected = naive(make("llama", dtype=torch.bfloat16), documents, block=16)
    for model in (make("llama", dtype=torch.bfloat16), trainable("llama", dtype=torch.bfloat16)):
        assert_same(likelihood(model, documents, new_ids=NEW, prefix=PREFIX, block=16), expected, rel=3e-3)


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "trainable"])
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_logits_of_all_tokens_are_never_held_where_they_need_not_be(family, wrapped, documents, monkeypatch) -> None:
    monkeypatch.setattr(cross_entropy, "LOGITS_BYTES", 3 * VOCAB * 4)
    model = trainable(family) if wrapped else make(family)
    held: list[int] = []
    inner: Any = model.model if isinstance(model, TrainableTables) else model
    inner.get_output_embeddings().register_forward_hook(lambda _, __, logits: held.append(logits[..., 0].numel()))
    total_bits(model, documents, prefix=PREFIX, block=16)
    at_most = 8 if not wrapped else 3  # a plain model is first asked about its logits, over a few tokens
    assert (max(held) <= at_most) is (family not in WHOLE_LOGITS)


def test_new_and_old_tokens_add_up(model, documents) -> None:
    found = likelihood(model, documents, new_ids=NEW, prefix=PREFIX, block=16)
    old = torch.tensor(sorted(set(range(VOCAB)) - set(NEW.tolist())))
    turned = likelihood(model, documents, new_ids=old, prefix=PREFIX, block=16)
    assert 0 < found.new_tokens < found.tokens == turned.tokens == found.new_tokens + turned.new_tokens
    assert found.new_bits + turned.new_bits == pytest.approx(found.bits) == pytest.approx(turned.bits)
    assert 0 < found.new_mass < 1 and found.new_mass + turned.new_mass == pytest.approx(1)
    assert found.new_loss == pytest.approx(turned.old_loss) and found.old_loss == pytest.approx(turned.new_loss)
    nats = found.new_share * found.new_loss + (1 - found.new_share) * found.old_loss
    assert nats == pytest.approx(found.bits / found.tokens * math.log(2))


def test_without_new_tokens_there_is_no_loss_of_them(model, documents) -> None:
    found = likelihood(model, documents, new_ids=NEW[:0], prefix=PREFIX, block=16)
    assert (found.new_bits, found.new_tokens, found.new_mass, found.new_share) == (0, 0, 0, 0)
    assert found.new_loss is None and found.old_loss is not None
    assert likelihood(model, [[3, 200]], new_ids=NEW, prefix=PREFIX, block=16).old_loss is None


def test_the_batches_do_not_count(model, documents) -> None:
    together = total_bits(model, documents * 20, prefix=PREFIX, block=16)
    alone = sum(total_bits(model, [document], prefix=PREFIX, block=16) for document in documents)
    shuffled = random.Random(1).sample(documents * 20, len(documents) * 20)
    assert together == pytest.approx(20 * alone, rel=1e-5)
    assert together == pytest.approx(total_bits(model, shuffled, prefix=PREFIX, block=16), rel=1e-6)


def test_every_token_is_told_once(model, documents) -> None:
    told: list[float] = []
    total_bits(model, documents, prefix=PREFIX, block=16, advance=told.append)
    assert sum(told) == sum(map(len, documents))


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(documents) -> None:
    model = make("llama untied")
    torch.nn.init.zeros_(model.get_output_embeddings().weight)
    found = likelihood(model, documents, new_ids=NEW, prefix=PREFIX, block=16)
    assert found.bits == pytest.approx(math.log2(VOCAB) * sum(map(len, documents)))
    assert found.new_mass == pytest.approx(len(NEW) / VOCAB)


def test_windows_cover_each_document_once(documents) -> None:
    found = windows(documents, prefix=-1, block=16)
    assert all(window[0] == -1 and 2 <= len(window) <= 17 for window in found)
    assert [id_ for window in found for id_ in window[1:]] == [id_ for document in documents for id_ in document]
    assert all(len(a) == 17 or b for a, b in pairwise(found))


def test_the_bits_of_a_document_are_its_own(model, documents) -> None:
    found = document_bits(model, documents, prefix=PREFIX, block=16)
    alone = [total_bits(model, [document], prefix=PREFIX, block=16) for document in documents]
    assert found == pytest.approx(alone, rel=1e-5) and found[documents.index([])] == 0
    assert document_bits(model, [], prefix=PREFIX, block=16) == []
