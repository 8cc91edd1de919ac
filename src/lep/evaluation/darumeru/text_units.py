"""Split texts into the units that scores count: tokens of the model, words, or lemmas."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from lep.errors import TokenizerError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WORD = re.compile(r"\w+")
_WORD_OR_PUNCTUATION = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class TokenizedText:
    """The tokens of a text."""

    ids: Sequence[Hashable]
    end_offsets: Sequence[int]
    """Where each token ends in the text, in characters."""

    def __len__(self) -> int:
        return len(self.ids)


def tokenize_text(text: str, *, tokenizer: str = "") -> TokenizedText:
    """Tokenize a text.

    Args:
        text: Any text.
        tokenizer: Folder or hub id of the model's tokenizer. If empty, the tokens are words and punctuation marks, for
            models whose tokenizer is unknown (endpoints).

    Returns:
        The tokens with their offsets.

    Raises:
        TokenizerError: The tokenizer cannot be loaded, or does not return offsets.

    Example:
        >>> tokenize_text("Да, конечно!").ids
        ['Да', ',', 'конечно', '!']
    """
    if not tokenizer:
        matches = list(_WORD_OR_PUNCTUATION.finditer(text))
        return TokenizedText([match.group() for match in matches], [match.end() for match in matches])
    encoding = _load_tokenizer(tokenizer)(text, add_special_tokens=False, return_offsets_mapping=True)
    return TokenizedText(encoding["input_ids"], [end for _, end in encoding["offset_mapping"]])


def lemmatize(text: str) -> list[str]:
    """Return the words of a text in lower case, Russian ones lemmatized by pymorphy3."""
    return [_lemmatize_word(word) for word in _WORD.findall(text.lower())]


@cache
def _load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{name}: no tokenizer to count tokens with ({error})") from None
    if not tokenizer.is_fast:
        raise TokenizerError(f"{name}: needs a tokenizer.json, since copies and sentences are measured in its tokens")
    return tokenizer


@cache
def _lemmatize_word(word: str) -> str:
    return _load_morphology().parse(word)[0].normal_form


@cache
def _load_morphology() -> Any:
    from pymorphy3 import MorphAnalyzer

    return MorphAnalyzer(lang="ru")
