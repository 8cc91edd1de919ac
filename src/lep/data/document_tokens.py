"""The tokens that stand before and after each document."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from lep.errors import TokenizerError


def document_prefix(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that stands before every document: beginning-of-sequence, else end-of-sequence.

    Raises:
        TokenizerError: the tokenizer has neither.
    """
    for id_ in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(id_, int):
            return id_
    raise TokenizerError("the tokenizer has neither a bos_token nor an eos_token to put before a document")


def document_end(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The token that stands after every document: end-of-sequence; none when the tokenizer has none."""
    return tokenizer.eos_token_id if isinstance(tokenizer.eos_token_id, int) else None
