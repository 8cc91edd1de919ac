"""One answer, told while it is made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.streaming import speak


@pytest.fixture(scope="module")
def spoken(tokenizers, make_model, tmp_path_factory) -> tuple:
    folder: Path = make_model(tmp_path_factory.mktemp("speaking") / "model", tokenizers["byte_level"])
    return load_model(folder, dtype="float32"), load_tokenizer(folder)


def test_what_is_told_is_what_generation_gives(spoken: tuple) -> None:
    model, tokenizer = spoken
    prompt = tokenizer.encode("The old professor")
    pieces: list[str] = []
    said = speak(model, tokenizer, prompt, longest=12, greedy=True, told=pieces.append)
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert said.text == "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert said.tokens == len(ids) and said.seconds > 0


def test_the_last_position_ends_an_answer(spoken: tuple) -> None:
    model, tokenizer = spoken
    positions = model.config.max_position_embeddings
    said = speak(model, tokenizer, [5] * (positions - 3), longest=100, greedy=True, told=lambda piece: None)
    assert said.tokens <= 3
    with pytest.raises(DataError, match="512 tokens so far, and the model has 512 positions"):
        speak(model, tokenizer, [5] * positions, longest=100, greedy=True, told=lambda piece: None)


def test_an_interruption_keeps_what_was_said(spoken: tuple) -> None:
    model, tokenizer = spoken
    pieces: list[str] = []

    def tell(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    said = speak(model, tokenizer, tokenizer.encode("The"), longest=400, greedy=True, told=tell)
    assert said.text == "".join(pieces) and said.tokens < 400
