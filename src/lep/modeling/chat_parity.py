"""A chat that is rendered and encoded before and after: what a new vocabulary must not change."""

from __future__ import annotations

import sys
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from lep.errors import TokenizerError
from lep.modeling.loading import load_tokenizer

CONVERSATION = (
    {"role": "user", "content": "What is 2 + 2? Ответь по-русски."},
    {"role": "assistant", "content": "Четыре (4)."},
    {"role": "user", "content": "Danke! 谢谢 🙂"},
)


def check_chat(instruct: Path, propagated: Path) -> int | None:
    """Render a conversation by both models; returns its length in new tokens, none where there is no chat template.

    Raises:
        TokenizerError: the texts differ, or the new ids do not decode to the text although the old ones do.
    """
    old, new = load_tokenizer(instruct), load_tokenizer(propagated)
    old.model_max_length = new.model_max_length = sys.maxsize
    text = _rendered(old)
    if text is None:
        return None
    if (found := _rendered(new)) != text:
        raise TokenizerError(f"{propagated}: renders a conversation as {found!r}, {instruct} as {text!r}")
    ids = _ids(new, text)
    if new.decode(ids) != text and old.decode(_ids(old, text)) == text:
        raise TokenizerError(f"{propagated}: the ids of a conversation decode to {new.decode(ids)!r}, not to {text!r}")
    return len(ids)


def _rendered(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """None without a template, or with one that wants more than a plain conversation."""
    if not tokenizer.chat_template:
        return None
    try:
        return str(tokenizer.apply_chat_template(list(CONVERSATION), tokenize=False, add_generation_prompt=True))
    except Exception:  # a template is a program of its own
        return None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]  # pyright: ignore[reportReturnType]
