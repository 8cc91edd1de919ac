"""A document that a tokenizer cannot encode completely is an error."""

from __future__ import annotations

import pytest
from transformers import AutoTokenizer

from lep.errors import TokenizerError
from lep.evaluation.tokenize import tokenize_documents


@pytest.fixture
def tokenizer(tokenizers):
    return AutoTokenizer.from_pretrained(tokenizers["byte_level"])


def test_no_special_token_is_added(tokenizer) -> None:
    ids = tokenize_documents(tokenizer, ["one", "two words"], model_name="m", text_name="en")
    assert [tokenizer.decode(document) for document in ids] == ["one", "two words"]


def test_a_document_without_tokens_is_named(tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"m: the tokenizer cannot encode document 2 of 'de': no tokens for ''"):
        tokenize_documents(tokenizer, ["ja", ""], model_name="m", text_name="de")


def test_an_error_of_the_tokenizer_is_named(tokenizer) -> None:
    with pytest.raises(TokenizerError, match=r"document 1 of 'de' \(\w+Error"):
        tokenize_documents(tokenizer, [None], model_name="m", text_name="de")  # type: ignore[list-item]


def test_an_unknown_token_is_an_error_unless_the_document_contains_it(tokenizer) -> None:
    tokenizer.add_special_tokens({"unk_token": "<unk>"})
    ids = [1, tokenizer.unk_token_id]
    tokenizer._encode_plus = lambda *_, **__: {"input_ids": ids}  # type: ignore[method-assign]
    with pytest.raises(TokenizerError, match=r"parts of it are encoded as '<unk>'.*falls back to bytes"):
        tokenize_documents(tokenizer, ["ß"], model_name="m", text_name="de")
    assert tokenize_documents(tokenizer, ["<unk>"], model_name="m", text_name="de") == [ids]
