"""Bits are summed over every token once, whatever the batches."""

from __future__ import annotations

import math
import random
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from lep.engine.likelihood import total_bits, windows

PREFIX = 0


@pytest.fixture(scope="module")
def model(make_model, tokenizers, tmp_path_factory) -> PreTrainedModel:
    folder: Path = make_model(tmp_path_factory.mktemp("likelihood") / "model", tokenizers["byte_level"])
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def documents() -> list[list[int]]:
    chosen = random.Random(0)
    return [[chosen.randrange(500) for _ in range(length)] for length in (1, 2, 40, 7, 0, 16, 33, 5, 5, 17, 64, 15)]


@torch.inference_mode()
def naive(model: PreTrainedModel, documents: list[list[int]], *, block: int) -> float:
    """One token at a time, each with all that precedes it in its window."""
    bits = 0.0
    for document in documents:
        for at in range(0, len(document), block):
            seen = [PREFIX]
            for token in document[at : at + block]:
                logits = model(input_ids=torch.tensor([seen])).logits[0, -1].double()
                bits -= float(logits.log_softmax(0)[token]) / math.log(2)
                seen.append(token)
    return bits


@pytest.mark.parametrize("block", [1, 16, 512])
def test_the_total_is_that_of_a_loop_over_tokens(model, documents, block) -> None:
    found = total_bits(model, documents, prefix=PREFIX, block=block)
    assert found == pytest.approx(naive(model, documents, block=block), rel=1e-5)


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


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(model, documents) -> None:
    class Uniform(torch.nn.Linear):
        def forward(self, input_ids: torch.Tensor, **_: object):
            return type("Output", (), {"logits": torch.zeros(*input_ids.shape, 256)})

    clipped = [[id_ % 256 for id_ in document] for document in documents]
    bits = total_bits(Uniform(1, 1), clipped, prefix=PREFIX, block=16)
    assert bits == pytest.approx(8 * sum(map(len, documents)))


def test_windows_cover_each_document_once(documents) -> None:
    found = windows(documents, prefix=-1, block=16)
    assert all(window[0] == -1 and 2 <= len(window) <= 17 for window in found)
    assert [id_ for window in found for id_ in window[1:]] == [id_ for document in documents for id_ in document]
    assert all(len(a) == 17 or b for a, b in pairwise(found))
