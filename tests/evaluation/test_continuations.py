"""Prompts are beginnings of documents, and every model continues them."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from lep.evaluation.continuations import (
    MAX_PROMPT_CHARACTERS,
    build_continuation_prompts,
    compare_continuations,
    generate_continuations,
)
from lep.modeling.loading import load_model, load_tokenizer

DOCUMENTS = st.lists(st.text(st.sampled_from("абв \n"), min_size=1, max_size=300), min_size=1, max_size=20)


@given(DOCUMENTS)
def test_prompts_are_beginnings_of_the_longest_documents(documents: list[str]) -> None:
    prompts = build_continuation_prompts({"ru": documents}, prompts_per_language=8)
    longest = sorted(documents, key=len, reverse=True)[:8]
    assert len(prompts) == min(8, len(documents))
    for item, document in zip(prompts, longest, strict=True):
        assert document.startswith(item.prompt) and len(item.prompt) <= MAX_PROMPT_CHARACTERS


def test_every_prompt_is_continued_and_the_first_of_each_language_are_shown(
    make_model, tokenizers, texts, tmp_path
) -> None:
    documents = {language: documents[:9] for language, documents in texts.items()}
    prompts = build_continuation_prompts(documents, prompts_per_language=3)
    torch.manual_seed(0)
    folder = make_model(tmp_path / "model", tokenizers["byte_level"])
    continuations = generate_continuations(load_model(folder, dtype="float32"), load_tokenizer(folder), prompts)
    assert len(continuations) == 6 and all(continuation.tokens for continuation in continuations)
    rows = compare_continuations(prompts, {"m": continuations})
    assert [row.language for row in rows] == ["ru", "ru", "en", "en"]
    assert [row.prompt for row in rows] == [prompts[i].prompt for i in (0, 1, 3, 4)]
    assert [row.outputs["m"] for row in rows] == [continuations[i] for i in (0, 1, 3, 4)]
