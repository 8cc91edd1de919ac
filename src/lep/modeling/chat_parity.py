"""Check that a new vocabulary does not change how a chat is rendered and decoded."""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lep.data.chat_template import render_chat
from lep.errors import DataError, TokenizerError
from lep.modeling.loading import load_tokenizer

TEST_CONVERSATION = (
    {"role": "user", "content": "What is 2 + 2? Ответь по-русски."},
    {"role": "assistant", "content": "Четыре (4)."},
    {"role": "user", "content": "Danke! 谢谢 🙂"},
)


def check_chat_parity(instruct: Path, propagated: Path) -> int | None:
    """Render and encode a conversation with the tokenizers of both models.

    Args:
        instruct: Folder of the original model.
        propagated: Folder of the model with the new vocabulary.

    Returns:
        Length of the conversation in new tokens; `None` if there is no chat template for plain conversations.

    Raises:
        TokenizerError: The texts differ, or the new ids do not decode to the text although the old ones do.
    """
    old, new = load_tokenizer(instruct), load_tokenizer(propagated)
    old.model_max_length = new.model_max_length = sys.maxsize
    text = _render_conversation(old)
    if text is None:
        return None
    if (new_text := _render_conversation(new)) != text:
        raise TokenizerError(f"{propagated}: renders a conversation as {new_text!r}, {instruct} as {text!r}")
    ids = _encode(new, text)
    if new.decode(ids) != text and old.decode(_encode(old, text)) == text:
        raise TokenizerError(f"{propagated}: the ids of a conversation decode to {new.decode(ids)!r}, not to {text!r}")
    return len(ids)


def _render_conversation(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Return `None` without a template, or with one that needs more than a plain conversation."""
    if not tokenizer.chat_template:
        return None
    try:
        return render_chat(tokenizer, TEST_CONVERSATION, add_generation_prompt=True, source="a test conversation")
    except DataError:
        return None


def _encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]
