"""Items are answered in batches, and an answer is right if it equals the expected one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from lep.errors import TokenizerError
from lep.evaluation import skills
from lep.evaluation.skills import answer_items, compare_answers, compute_skill_accuracy, expected_answer
from lep.results.evaluation import GeneratedText, ItemAnswers


@pytest.fixture
def tokenizer(tokenizers: dict[str, Path]) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


def make_item(prompt: str, answer: str, skill: str = "s") -> dict[str, Any]:
    return {
        "skill": skill,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": answer}],
    }


def test_answers_come_in_the_order_of_the_items(tokenizer, monkeypatch) -> None:
    monkeypatch.setattr(skills, "BATCH_SIZE", 3)
    batches: list[tuple[int, int]] = []

    def echo(model: Any, tokenizer: Any, prompts: list[str], *, max_new_tokens: int, **_: Any) -> list[GeneratedText]:
        batches.append((len(prompts), max_new_tokens))
        return [GeneratedText(text=prompt, tokens=1) for prompt in prompts]

    monkeypatch.setattr("lep.modeling.generation.generate", echo)
    items = [make_item(str(i), "x" * (1 + 7 * i % 11)) for i in range(8)]
    answers = answer_items(object.__new__(PreTrainedModel), tokenizer, items)
    assert [answer.text.count(f"user\n{i}<") for i, answer in enumerate(answers)] == [1] * 8
    assert all(answer.text.endswith("<|im_start|>assistant\n") for answer in answers)
    limits = [limit for _, limit in batches]
    assert [count for count, _ in batches] == [3, 3, 2] and limits == sorted(limits)


def test_a_model_without_a_chat_template_is_named(tokenizer) -> None:
    tokenizer.chat_template = None
    with pytest.raises(TokenizerError, match=r"byte_level: no chat template for the items of `skills`"):
        answer_items(None, tokenizer, [make_item("q", "a")])  # type: ignore[arg-type]


def test_the_expected_answer_is_the_last_message() -> None:
    item = make_item("q", "first")
    item["completion"].append({"role": "assistant", "content": "last"})
    assert expected_answer(item) == "last"


def test_an_answer_is_right_if_it_equals_the_expected_one_without_outer_whitespace() -> None:
    expected = [("yes", "a"), (" yes\n", "a"), ("yes", "b"), ("yes", "b")]
    items = [make_item("q", answer, skill) for answer, skill in expected]
    answers = [GeneratedText(text, 1) for text in ("yes\n", "yes", "Yes", "yes.")]
    scores = compute_skill_accuracy(items, answers)
    assert {skill: (score.correct, score.items) for skill, score in scores.items()} == {
        "all": (2, 4),
        "a": (2, 2),
        "b": (0, 2),
    }
    assert all(score.low <= score.accuracy <= score.high for score in scores.values())
    with pytest.raises(ValueError, match="shorter"):
        compute_skill_accuracy(items, answers[:3])


def test_the_first_items_of_each_skill_are_shown_with_all_answers() -> None:
    items = [make_item(str(i), "a", skill) for i, skill in enumerate("aabab")]
    answers = {name: [GeneratedText(f"{name}{i}", 1) for i in range(5)] for name in ("m", "n")}
    rows = compare_answers(items, answers)
    assert [(row.skill, row.prompt) for row in rows] == [("a", "0"), ("a", "1"), ("b", "2"), ("b", "4")]
    assert rows[3] == ItemAnswers("b", "4", "a", {"m": answers["m"][4], "n": answers["n"][4]})
