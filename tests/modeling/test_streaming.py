"""A reply is streamed while it is generated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lep.errors import DataError
from lep.modeling.loading import load_model, load_tokenizer
from lep.modeling.streaming import stream_reply


@pytest.fixture(scope="module")
def chat_model(tokenizers, make_model, tmp_path_factory) -> tuple:
    folder: Path = make_model(tmp_path_factory.mktemp("streaming") / "model", tokenizers["byte_level"])
    return load_model(folder, dtype="float32"), load_tokenizer(folder)


def test_the_stream_is_what_generate_returns(chat_model: tuple) -> None:
    model, tokenizer = chat_model
    prompt = tokenizer.encode("The old professor")
    pieces: list[str] = []
    reply = stream_reply(model, tokenizer, prompt, max_new_tokens=12, greedy=True, on_text=pieces.append)
    ids = model.generate(torch.tensor([prompt]), max_new_tokens=12, do_sample=False)[0, len(prompt) :]
    assert reply.text == "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=True)
    assert reply.tokens == len(ids) and reply.seconds > 0


def test_the_last_position_ends_a_reply(chat_model: tuple) -> None:
    model, tokenizer = chat_model
    positions = model.config.max_position_embeddings
    reply = stream_reply(
        model, tokenizer, [5] * (positions - 3), max_new_tokens=100, greedy=True, on_text=lambda piece: None
    )
    assert reply.tokens <= 3
    with pytest.raises(DataError, match="the conversation has 512 tokens, and the model 512 positions; start"):
        stream_reply(model, tokenizer, [5] * positions, max_new_tokens=100, greedy=True, on_text=lambda piece: None)


def test_an_interruption_keeps_the_text_so_far(chat_model: tuple) -> None:
    model, tokenizer = chat_model
    pieces: list[str] = []

    def interrupt(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            raise KeyboardInterrupt

    reply = stream_reply(model, tokenizer, tokenizer.encode("The"), max_new_tokens=400, greedy=True, on_text=interrupt)
    assert reply.text == "".join(pieces) and reply.tokens < 400
