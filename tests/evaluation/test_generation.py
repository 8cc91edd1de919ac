"""Greedy answers stop at every end, are counted without it, and are right when they equal what is expected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lep.evaluation.generation import Answer, answer_items, expected, generate, score

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
            said = logits(inputs[0])
            ids = seen["ids"][:, -said.shape[1] :]
            for row in range(len(ids)):
                for at in range(ids.shape[1]):
                    said[row, at, after.get(int(ids[row, at]), 50)] = 9.0
            return said

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
    short, long = generate(chain({a: b, b: c, c: stop}), tokenizer, ["xyz a", "x"], longest=6)
    assert (short.text, short.tokens) == ("bc", 2)
    assert long.tokens == 6 and long.text == tokenizer.decode([50] * 6)


def test_exactly_so_many_tokens_when_speed_is_measured(chain, model, tokenizer) -> None:
    a, b = (tokenizer(text)["input_ids"][-1] for text in "ab")
    said = generate(chain({a: b, b: END}), tokenizer, ["a"], longest=5, exactly=True)
    assert said[0].tokens == 5


def test_an_answer_does_not_depend_on_its_neighbours(model, tokenizer, texts) -> None:
    prompts = [texts["en"][i][: 5 + 9 * i] for i in range(5)]
    together = generate(model, tokenizer, prompts, longest=6)
    assert together == [generate(model, tokenizer, [prompt], longest=6)[0] for prompt in prompts]


def test_answers_come_in_the_order_of_the_items(chain, tokenizer, monkeypatch, texts) -> None:
    from lep.evaluation import generation

    monkeypatch.setattr(generation, "BATCH", 3)
    asked: list[tuple[int, int]] = []

    def echo(model: Any, tokenizer: Any, prompts: list[str], *, longest: int) -> list[Answer]:
        asked.append((len(prompts), longest))
        return [Answer(text=prompt, tokens=1) for prompt in prompts]

    monkeypatch.setattr(generation, "generate", echo)
    found = [item(str(i), "x" * (1 + 7 * i % 11)) for i in range(8)]
    answers = answer_items(None, tokenizer, found)  # type: ignore[arg-type]
    assert [answer.text.count(f"user\n{i}<") for i, answer in enumerate(answers)] == [1] * 8
    assert all(answer.text.endswith("<|im_start|>assistant\n") for answer in answers)
    assert [count for count, _ in asked] == [3, 3, 2] and [room for _, room in asked] == sorted(r for _, r in asked)


def item(prompt: str, answer: str, skill: str = "s") -> dict[str, Any]:
    return {
        "skill": skill,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def test_the_expected_answer_is_the_last_message() -> None:
    found = item("q", "first")
    found["completion"].append({"role": "assistant", "content": "last"})
    assert expected(found) == "last"


def test_right_is_what_equals_the_expected_answer_outer_space_aside() -> None:
    items = [item("q", "yes", "a"), item("q", " yes\n", "a"), item("q", "yes", "b"), item("q", "yes", "b")]
    answers = [Answer(text, 1) for text in ("yes\n", "yes", "Yes", "yes.")]
    found = score(items, answers)
    assert {skill: (marks["correct"], marks["items"]) for skill, marks in found.items()} == {
        "all": (2, 4),
        "a": (2, 2),
        "b": (0, 2),
    }
    assert all(marks["low"] <= marks["accuracy"] <= marks["high"] for marks in found.values())
    with pytest.raises(ValueError, match="shorter"):
        score(items, answers[:3])
