"""Characters and bytes per token of a tokenizer, by text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedTokenizerBase

from lep.evaluation.bootstrap import BootstrapEstimate, bootstrap
from lep.evaluation.tokenize import tokenize_documents

DocumentCounts = tuple[int, int, int]
"""Characters, UTF-8 bytes and tokens of a document."""


@dataclass(frozen=True)
class Compression:
    """Compression of one text by one tokenizer, bootstrapped over documents."""

    characters_per_token: BootstrapEstimate
    bytes_per_token: BootstrapEstimate


def measure_compression(
    tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, Sequence[str]], *, model_name: str
) -> dict[str, Compression]:
    """Measure characters and bytes per token of each text.

    Args:
        tokenizer: Of the model.
        texts: Documents by the name of the text.
        model_name: For errors.

    Returns:
        The compression by the name of the text.

    Raises:
        TokenizerError: The tokenizer cannot encode a document.
    """
    compression = {}
    for name, documents in texts.items():
        tokenized = tokenize_documents(tokenizer, documents, model_name=model_name, text_name=name)
        counts = [
            (len(document), len(document.encode()), len(ids))
            for document, ids in zip(documents, tokenized, strict=True)
        ]
        characters, bytes_ = (
            bootstrap(counts, partial(_units_per_token, unit=unit), name=name, seed=0) for unit in range(2)
        )
        compression[name] = Compression(characters, bytes_)
    return compression


def _units_per_token(counts: Sequence[DocumentCounts], *, unit: int) -> float:
    return sum(count[unit] for count in counts) / sum(count[2] for count in counts)
