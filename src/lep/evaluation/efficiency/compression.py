"""How much text is in a token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedTokenizerBase

from lep.evaluation.bootstrap import Estimate, estimate
from lep.evaluation.tokenize import encode

Counts = tuple[int, int, int]
"""Characters, UTF-8 bytes and tokens of a document."""


@dataclass(frozen=True)
class Density:
    """Of one text, as a tokenizer writes it."""

    symbols_per_token: Estimate
    bytes_per_token: Estimate


def densities(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], *, model: str
) -> dict[str, Density]:
    """The density of each text, and what other documents of its kind may have.

    Args:
        texts: documents by the name of the text.
        model: its name, for errors.

    Raises:
        TokenizerError: see `encode`.
    """
    found = {}
    for text, documents in texts.items():
        ids = encode(tokenizer, documents, model=model, text=text)
        counts = [(len(doc), len(doc.encode()), len(own)) for doc, own in zip(documents, ids, strict=True)]
        symbols, bytes_ = (estimate(counts, partial(_per_token, unit=unit), task=text, seed=0) for unit in range(2))
        found[text] = Density(symbols, bytes_)
    return found


def _per_token(counts: Sequence[Counts], *, unit: int) -> float:
    return sum(one[unit] for one in counts) / sum(one[2] for one in counts)
