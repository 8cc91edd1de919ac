"""What is counted in a text: the tokens of the model, or words; and lemmas."""

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
_WORD_OR_MARK = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True)
class Tokens:
    """A text in tokens."""

    ids: Sequence[Hashable]
    ends: Sequence[int]
    """Where each token ends in the text, in characters."""

    def __len__(self) -> int:
        return len(self.ids)


def tokens(text: str, *, tokenizer: str = "") -> Tokens:
    """The tokens of a text.

    Args:
        tokenizer: the folder or hub id of the model's tokenizer; empty: words and punctuation marks, for models whose
            tokenizer is not known (endpoints).

    Raises:
        TokenizerError: it cannot be loaded, or cannot tell where its tokens stand.
    """
    if not tokenizer:
        found = list(_WORD_OR_MARK.finditer(text))
        return Tokens([match.group() for match in found], [match.end() for match in found])
    read = _tokenizer(tokenizer)(text, add_special_tokens=False, return_offsets_mapping=True)
    return Tokens(read["input_ids"], [end for _, end in read["offset_mapping"]])


def lemmas(text: str) -> list[str]:
    """The words of a text in lower case, each Russian one in its dictionary form, by pymorphy3."""
    return [_lemma(word) for word in _WORD.findall(text.lower())]


@cache
def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{name}: no tokenizer to count tokens with ({error})") from None
    if not loaded.is_fast:
        raise TokenizerError(f"{name}: needs a tokenizer.json, since copies and sentences are measured in its tokens")
    return loaded


@cache
def _lemma(word: str) -> str:
    return _morphology().parse(word)[0].normal_form


@cache
def _morphology() -> Any:
    from pymorphy3 import MorphAnalyzer

    return MorphAnalyzer(lang="ru")
