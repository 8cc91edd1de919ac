"""The special tokens before and after each document."""

from __future__ import annotations

from transformers import PreTrainedTokenizerBase

from lep.errors import TokenizerError


def get_document_prefix_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the id of the token before every document: beginning-of-sequence, else end-of-sequence.

    Args:
        tokenizer: Any tokenizer.

    Returns:
        The id.

    Raises:
        TokenizerError: The tokenizer has neither.
    """
    for id_ in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if isinstance(id_, int):
            return id_
    raise TokenizerError("the tokenizer has neither a bos_token nor an eos_token to put before a document")


def get_document_end_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the id of the token after every document, end-of-sequence; None if the tokenizer has none."""
    return tokenizer.eos_token_id if isinstance(tokenizer.eos_token_id, int) else None
