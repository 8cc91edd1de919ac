"""The extractive task with a real network compares mean log-probabilities of equally many tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from lep.evaluation.darumeru.documents import load_documents
from lep.evaluation.darumeru.metrics import r_precision

TEMPLATE = (
    "{% for turn in messages %}<{{ turn['role'] }}>{{ turn['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


@pytest.fixture(scope="module")
def network(tokenizer: str) -> tuple[LlamaForCausalLM, PreTrainedTokenizerBase]:
    torch.manual_seed(0)
    loaded = PreTrainedTokenizerFast.from_pretrained(tokenizer)
    loaded.add_special_tokens({"eos_token": "<end>", "pad_token": "<end>"})
    loaded.chat_template = TEMPLATE
    config = LlamaConfig(
        vocab_size=len(loaded), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=2048, initializer_range=0.5,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval(), loaded


def score_first_tokens(network: Any, context: str, sentence: str, *, count: int) -> float:
    """Return the sum of the log-probabilities of the first tokens of a sentence after a context."""
    model, tokenizer = network
    before, after = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (context, sentence))
    with torch.no_grad():
        rows = model(torch.tensor([[*before, *after]])).logits[0].log_softmax(dim=-1)
    return sum(float(rows[len(before) - 1 + i, after[i]]) for i in range(count))


@pytest.mark.parametrize("chat", [False, True])
def test_sentences_are_compared_by_their_first_tokens(
    run, harness, network, tokenizer: str, data: str, chat: bool
) -> None:
    from lm_eval.models.huggingface import HFLM

    model, loaded = network
    lm = HFLM(pretrained=model, tokenizer=loaded, batch_size=2)
    results = run(lm, "darumeru_extractive", metadata={"tokenizer": tokenizer}, apply_chat_template=chat)
    sample = results["samples"]["darumeru_extractive"][0]
    document, row = sample["doc"], load_documents(task="darumeru_extractive", data=data, tokenizer=tokenizer)["test"][0]
    assert document["choices"] == row["choices"]

    news = document["prompt"].removesuffix("\nВажные предложения:").partition("Новость: ")[2]
    sentences = [f"{part}." for part in news.rstrip(".").split(". ")]
    shortest = min(len(loaded(sentence, add_special_tokens=False)["input_ids"]) for sentence in sentences)
    context = f"<user>{document['prompt']}\n<assistant>\n" if chat else f"{document['prompt']}\n"
    line_break = score_first_tokens(
        network, context.removesuffix("\n"), "\n", count=1
    )  # is scored, too, for all sentences
    expected = [line_break + score_first_tokens(network, context, sentence, count=shortest) for sentence in sentences]
    scores = [float(response[0][0]) for response in sample["resps"]]
    assert scores == pytest.approx(expected, abs=1e-3)
    assert sample["score"] == r_precision(expected, document["relevant"])
