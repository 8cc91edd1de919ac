"""What stands before a document, and errors of transformers as ours."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from lep.data.document_tokens import get_document_prefix_id
from lep.errors import CheckpointError, LepError, TokenizerError
from lep.modeling.loading import fork_rng_with_seed, load_model, load_tokenizer


@pytest.mark.parametrize(
    ("bos", "eos", "prefix"), [("<|im_start|>", "<|im_end|>", 1), (None, "<|im_end|>", 2), ("<|im_start|>", None, 1)]
)
def test_the_prefix_is_the_beginning_or_else_the_end(tokenizers, bos, eos, prefix) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizers["byte_level"])
    tokenizer.bos_token, tokenizer.eos_token = bos, eos
    assert get_document_prefix_id(tokenizer) == prefix


def test_without_either_there_is_none(tokenizers) -> None:
    with pytest.raises(TokenizerError, match="neither a bos_token nor an eos_token"):
        get_document_prefix_id(AutoTokenizer.from_pretrained(tokenizers["metaspace"]))


def test_what_transformers_cannot_load_is_named(tmp_path: Path, make_model, tokenizers) -> None:
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        load_model(tmp_path, dtype="float32")
    with pytest.raises(TokenizerError, match=str(tmp_path)):
        load_tokenizer(tmp_path)
    cut = make_model(tmp_path / "cut", tokenizers["byte_level"])
    for load in (lambda: load_model(tmp_path, dtype="float32"), lambda: load_tokenizer(tmp_path)):
        with pytest.raises(LepError, match=f"expected a Hugging Face model folder, as {cut}"):
            load()
    (cut / "model.safetensors").write_bytes((cut / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="transformers cannot load this model"):
        load_model(cut, dtype="float32")


@pytest.mark.parametrize("text", ["{", '{"model": {"type": "BPE", "vocab": {}, "merges": 3}}'])
def test_a_broken_tokenizer_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokenizer.json").write_text(text)
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    with pytest.raises(TokenizerError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_is_loaded_in_its_dtype_and_for_evaluation(tmp_path: Path, make_model, tokenizers, dtype) -> None:
    model = load_model(make_model(tmp_path / "model", tokenizers["byte_level"]), dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)} and not model.training


def test_random_numbers_outside_are_as_if_nothing_had_happened() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    random.seed(5)
    with fork_rng_with_seed(1):
        inside = torch.rand(3)
    with fork_rng_with_seed(1):
        assert torch.equal(torch.rand(3), inside)
    assert torch.equal(torch.rand(3), expected)
