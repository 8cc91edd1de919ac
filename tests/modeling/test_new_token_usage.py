"""Generated new tokens are counted, and the model is left as it was."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedModel

from lep.modeling import new_token_usage as module
from lep.modeling.new_token_usage import (
    CONTINUATION_LENGTH,
    PROMPT_COUNT,
    PROMPT_LENGTH,
    compute_generated_new_fraction,
    count_rare_new_tokens,
    generate_continuations,
)
from lep.modeling.trainable_embeddings import TrainableEmbeddings

VOCAB, PREFIX, END = 50, 0, 7
NEW = torch.tensor([3, 20, 48, 49])
CONFIG = LlamaConfig(
    vocab_size=VOCAB,
    hidden_size=16,
    intermediate_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    initializer_range=0.3,
    attention_dropout=0.5,
    bos_token_id=PREFIX,
    eos_token_id=END,
)


def make() -> PreTrainedModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoModelForCausalLM.from_config(CONFIG, attn_implementation="eager").eval()


def always(token: int) -> PreTrainedModel:
    """A model whose likeliest next token is always the same."""
    model = make()
    model.model.norm.register_forward_hook(lambda _, __, hidden: torch.ones_like(hidden))
    model.lm_head.weight.data.zero_()[token] = 1
    return model


def documents(count: int = PROMPT_COUNT + 4) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCAB, (PROMPT_LENGTH - 1 + i % 4,), generator=generator).tolist() for i in range(count)]


@torch.inference_mode()
def naive(model: PreTrainedModel, prompt: list[int]) -> list[int]:
    """Without a cache, one document at a time."""
    ids = [PREFIX, *prompt]
    for _ in range(CONTINUATION_LENGTH):
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-CONTINUATION_LENGTH:]


@pytest.fixture(params=["plain", "trainable"])
def wrap(request: pytest.FixtureRequest):
    return (
        (lambda model: TrainableEmbeddings(model, new_ids=NEW).causal_lm)
        if request.param == "trainable"
        else lambda model: model
    )


def test_generation_is_greedy(wrap) -> None:
    expected = [naive(make(), document[:PROMPT_LENGTH]) for document in documents() if len(document) >= PROMPT_LENGTH][
        :PROMPT_COUNT
    ]
    ids = generate_continuations(wrap(make()), documents(), prefix_id=PREFIX)
    assert ids.tolist() == expected and len({tuple(row) for row in expected}) > 1


@pytest.mark.parametrize(("token", "fraction"), [(20, 1.0), (21, 0.0), (END, 0.0)])
def test_a_model_that_always_generates_one_token(wrap, token: int, fraction: float) -> None:
    model = wrap(always(token))
    assert (generate_continuations(model, documents(), prefix_id=PREFIX) == token).all()
    assert compute_generated_new_fraction(model, documents(), new_ids=NEW, prefix_id=PREFIX) == fraction


def test_as_many_documents_as_are_long_enough_are_continued() -> None:
    model = always(20)
    for count, expected in ((1, 0), (2, 1), (4, 3), (100, PROMPT_COUNT)):
        assert generate_continuations(model, documents(count), prefix_id=PREFIX).shape == (
            expected,
            CONTINUATION_LENGTH,
        )
    assert compute_generated_new_fraction(model, documents(1), new_ids=NEW, prefix_id=PREFIX) is None
    assert compute_generated_new_fraction(model, [], new_ids=NEW, prefix_id=PREFIX) is None


def test_tokens_that_training_contains_never_or_rarely_are_counted() -> None:
    counts = np.full(VOCAB, 1000)
    counts[[1, 2]] = 0  # old rows are not counted
    counts[[3, 20, 48, 49]] = 0, 1, 99, 100
    assert [count_rare_new_tokens(NEW, counts, min_count=times) for times in (1, 2, 99, 100, 101)] == [1, 2, 2, 3, 4]


def modes(model: nn.Module) -> list[bool]:
    return [part.training for part in model.modules()]


def test_the_model_is_left_as_it_was(wrap) -> None:
    model = wrap(make())
    expected = generate_continuations(model, documents(), prefix_id=PREFIX)
    model.train()
    next(model.children()).eval()
    before, state = modes(model), torch.get_rng_state()
    weights = [weight.clone() for weight in model.parameters()]
    assert torch.equal(generate_continuations(model, documents(), prefix_id=PREFIX), expected)  # without dropout
    assert modes(model) == before and True in before
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) and not b.is_inference() for a, b in zip(weights, model.parameters(), strict=True))


def test_a_failure_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make().train()
    original = model.generation_config

    def fail(**_: Tensor) -> None:
        assert not model.training
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model, "generate", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate_continuations(model, documents(), prefix_id=PREFIX)
    assert all(modes(model)) and model.generation_config is original


def test_generation_settings_of_the_folder_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    model = make()
    expected = generate_continuations(model, documents(), prefix_id=PREFIX)
    config = model.generation_config
    config.do_sample, config.temperature, config.top_k, config.repetition_penalty = True, 2.0, 3, 5.0
    config.eos_token_id, config.max_length = list(range(VOCAB)), 8
    logging.getLogger("transformers").addHandler(caplog.handler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids = generate_continuations(model, documents(), prefix_id=PREFIX)
    logging.getLogger("transformers").removeHandler(caplog.handler)
    assert torch.equal(ids, expected) and model.generation_config is config
    assert not caplog.records


def test_the_prompts_are_of_one_length(monkeypatch: pytest.MonkeyPatch) -> None:
    model = make()
    monkeypatch.setattr(module, "PROMPT_COUNT", 2)
    seen: list[tuple[int, ...]] = []
    model.register_forward_pre_hook(lambda _, __, inputs: seen.append(inputs["input_ids"].shape), with_kwargs=True)
    generate_continuations(model, documents(), prefix_id=PREFIX)
    assert seen == [(2, PROMPT_LENGTH + 1), *[(2, 1)] * (CONTINUATION_LENGTH - 1)]  # with a cache
