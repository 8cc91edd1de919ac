"""Tokenize the documents that a model is measured on, and check that nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lep.errors import TokenizerError


def tokenize_documents(
    tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], *, model_name: str, text_name: str
) -> list[list[int]]:
    """Tokenize each document, without special tokens.

    Args:
        tokenizer: Of the model.
        documents: Texts.
        model_name: For errors.
        text_name: For errors.

    Returns:
        The token ids of each document, at least one.

    Raises:
        TokenizerError: The tokenizer fails on a document, returns no tokens for it, or encodes a part of it as
            unknown. An unknown token stands for any text, so its count and likelihood mean nothing.
    """
    tokenized = []
    for number, document in enumerate(documents, start=1):
        place = f"{model_name}: the tokenizer cannot encode document {number} of {text_name!r}"
        try:
            ids = list(tokenizer(document, add_special_tokens=False)["input_ids"])
        except Exception as error:  # whatever a tokenizer's own code may raise
            raise TokenizerError(f"{place} ({type(error).__name__}: {error})") from error
        if not ids:
            raise TokenizerError(f"{place}: no tokens for {document[:40]!r}; leave the text out")
        if tokenizer.unk_token_id in ids and str(tokenizer.unk_token) not in document:
            raise TokenizerError(
                f"{place}: parts of it are encoded as {tokenizer.unk_token!r}, and the results would look better than "
                "they are; leave the text out, or evaluate a model whose tokenizer falls back to bytes"
            )
        tokenized.append(ids)
    return tokenized
