"""Occurrences of each token of a vocabulary in a corpus."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lep.data.corpus import get_corpus_bytes, list_corpus_languages, read_corpus_documents
from lep.io.tokenizer_file import TokenizerFile
from lep.progress import track_progress

_BATCH_DOCUMENTS = 1000


def count_corpus_tokens(corpus: Path, tokenizer: TokenizerFile) -> Float[Tensor, " vocab"]:
    """Count every token id in the training split of a corpus, over all its languages.

    Args:
        corpus: a corpus of `collect`, a file of documents, or a folder of such files.
        tokenizer: encodes the documents, without special tokens.

    Returns:
        Occurrences by id, float64.
    """
    counts = torch.zeros(len(tokenizer.vocabulary), dtype=torch.float64)
    for language in list_corpus_languages(corpus):
        texts = read_corpus_documents(corpus, language, "train")
        with track_progress(
            f"counting tokens of {language}", total=get_corpus_bytes(corpus, language), unit="bytes"
        ) as advance:
            while documents := list(islice(texts, _BATCH_DOCUMENTS)):
                ids = torch.tensor([id_ for ids in tokenizer.encode_batch(documents) for id_ in ids], dtype=torch.int64)
                counts += ids.bincount(minlength=len(counts))
                advance(sum(len(document.encode()) for document in documents))
    return counts
