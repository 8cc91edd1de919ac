"""A batch of prompts is continued, greedily or by chance; it stops at every end, and is counted without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import UsageError
from lep.modeling.generation import generate, generate_all, generate_batches

END, OTHER_END = 0, 2


@pytest.fixture
def tokenizer(tokenizers: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


@pytest.fixture(scope="module")
def model(make_model, tokenizers, tmp_path_factory) -> PreTrainedModel:
    folder = make_model(tmp_path_factory.mktemp("generation") / "model", tokenizers["byte_level"], tied=False)
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture
def chain(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch):
    """`chain({a: b})`: after token a the model says b; after any other, token 50."""

    def chain(after: dict[int, int]) -> PreTrainedModel:
        def logits(hidden: torch.Tensor) -> torch.Tensor:
            return torch.zeros(*hidden.shape[:-1], 500)

        seen: dict[str, torch.Tensor] = {}
        embed, head = model.get_input_embeddings(), model.get_output_embeddings()

        def remember(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            seen["ids"] = inputs[0]

        def say(_: Any, inputs: tuple[torch.Tensor, ...], __: torch.Tensor) -> torch.Tensor:
            reply = logits(inputs[0])
            ids = seen["ids"][:, -reply.shape[1] :]
            for row in range(len(ids)):
                for at in range(ids.shape[1]):
                    reply[row, at, after.get(int(ids[row, at]), 50)] = 9.0
            return reply

        handles.extend([embed.register_forward_pre_hook(remember), head.register_forward_hook(say)])
        return model

    handles: list[Any] = []
    yield chain
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("pad", ["<|endoftext|>", "<|im_start|>", None])
@pytest.mark.parametrize("ends", [END, [OTHER_END, END]])
def test_generation_stops_at_an_end_and_counts_what_comes_before(
    chain, model, tokenizer, monkeypatch, pad, ends
) -> None:
    monkeypatch.setattr(model.generation_config, "eos_token_id", ends)
    tokenizer.pad_token = pad
    a, b, c = (tokenizer(text)["input_ids"][-1] for text in ("xyz a", "b", "c"))
    stop = END if ends == END else OTHER_END
    short, long = generate(chain({a: b, b: c, c: stop}), tokenizer, ["xyz a", "x"], max_new_tokens=6)
    assert (short.text, short.tokens) == ("bc", 2)
    assert long.tokens == 6 and long.text == tokenizer.decode([50] * 6)


def test_exactly_so_many_tokens_when_speed_is_measured(chain, model, tokenizer) -> None:
    a, b = (tokenizer(text)["input_ids"][-1] for text in "ab")
    reply = generate(chain({a: b, b: END}), tokenizer, ["a"], max_new_tokens=5, ignore_eos=True)
    assert reply[0].tokens == 5


def test_an_answer_does_not_depend_on_its_neighbours(model, tokenizer, texts) -> None:
    prompts = [texts["en"][i][: 5 + 9 * i] for i in range(5)]
    together = generate(model, tokenizer, prompts, max_new_tokens=6)
    assert together == [generate(model, tokenizer, [prompt], max_new_tokens=6)[0] for prompt in prompts]


def test_an_answer_is_cut_when_it_has_no_end(chain, tokenizer) -> None:
    a, b, c = (tokenizer(text)["input_ids"][-1] for text in "abc")
    saying = chain({a: b, b: c, c: END})
    answers = [generate(saying, tokenizer, ["a"], max_new_tokens=longest)[0] for longest in (1, 2, 3)]
    assert [(answer.text, answer.truncated) for answer in answers] == [("b", True), ("bc", True), ("bc", False)]


def test_sampled_answers_differ_by_the_seed_alone(model, tokenizer, texts) -> None:
    def sampled(seed: int) -> list[str]:
        torch.manual_seed(seed)
        return [
            answer.text for answer in generate(model, tokenizer, texts["en"][:3], max_new_tokens=8, temperature=1.0)
        ]

    assert sampled(1) == sampled(1) != sampled(2)


def test_batches_are_sorted_by_their_limit_and_skipped_when_done(model, tokenizer, texts, monkeypatch) -> None:
    prompts, limits, batches = texts["en"][:5], [4, 2, 4, 2, 3], []
    expected = {i: generate(model, tokenizer, [prompts[i]], max_new_tokens=limits[i])[0] for i in (1, 3)}

    def record(*args: Any, max_new_tokens: int, **kwargs: Any) -> Any:
        batches.append((args[2], max_new_tokens))
        return generate(*args, max_new_tokens=max_new_tokens, **kwargs)

    monkeypatch.setattr("lep.modeling.generation.generate", record)
    results = list(generate_batches(model, tokenizer, prompts, max_new_tokens=limits, batch_size=2, done={4, 0}))
    assert [list(batch) for batch in results] == [[1, 3], [2]] and results[0] == expected
    assert batches == [([prompts[1], prompts[3]], 2), ([prompts[2]], 4)]
    in_order = generate_all(model, tokenizer, prompts, max_new_tokens=limits, batch_size=2, label="x", unit="x")
    assert len(in_order) == 5 and [in_order[1], in_order[3]] == [expected[1], expected[3]]


def test_too_little_memory_is_explained(model, tokenizer, monkeypatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("lep.modeling.generation.generate", fail)
    with pytest.raises(UsageError, match="too little memory on the accelerator to continue 2 prompts at once; lower x"):
        list(generate_batches(model, tokenizer, ["a", "b"], max_new_tokens=2, batch_size=2, memory_hint="lower x"))
