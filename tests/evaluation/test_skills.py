"""Items are answered in batches, and right is what equals the expected answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from lep.errors import TokenizerError
from lep.evaluation.skills import Answer, answer_items, expected, score


@pytest.fixture
def tokenizer(tokenizers: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


def test_answers_come_in_the_order_of_the_items(tokenizer, monkeypatch, texts) -> None:
    from lep.evaluation import skills as generation

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


def test_a_model_without_a_chat_template_is_named(tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TokenizerError, match=r"byte_level: no chat template to ask the items of `skills` with"):
        answer_items(None, tokenizer, [item("q", "a")])  # type: ignore[arg-type]


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
