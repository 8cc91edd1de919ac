"""Texts as the token ids of a model, or the reason why its numbers on them would be none."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from lep.errors import TokenizerError


def encode(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], *, model: str, text: str) -> list[list[int]]:
    """The ids of each document, without special tokens.

    Args:
        model: its name, for errors.
        text: the name of the text, for errors.

    Raises:
        TokenizerError: it fails on a document, gives nothing for one, or writes a part of one as unknown: what is
            unknown can be anything, so the number of tokens and their likelihood say nothing.
    """
    found = []
    for number, document in enumerate(documents, start=1):
        place = f"{model}: its tokenizer cannot write document {number} of {text!r}"
        try:
            ids = list(tokenizer(document, add_special_tokens=False)["input_ids"])
        except Exception as error:  # whatever a tokenizer's own code may raise
            raise TokenizerError(f"{place} ({type(error).__name__}: {error})") from error
        if not ids:
            raise TokenizerError(f"{place}: it gives no tokens for {document[:40]!r}; leave the text out")
        if tokenizer.unk_token_id in ids and str(tokenizer.unk_token) not in document:
            raise TokenizerError(
                f"{place}: parts of it become {tokenizer.unk_token!r}, and numbers would look better than they are; "
                "leave the text out, or evaluate a model whose tokenizer falls back to bytes"
            )
        found.append(ids)
    return found
