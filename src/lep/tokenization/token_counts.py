"""How often each token of a vocabulary occurs in text."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from lep.data.corpus import corpus_bytes, corpus_documents, corpus_languages
from lep.io.tokenizer_file import TokenizerFile
from lep.progress import progress

_BATCH = 1000


def token_frequencies(corpus: Path, tokenizer: TokenizerFile) -> Float[Tensor, " vocab"]:
    """Occurrences of every id in the training half of a corpus, all languages together; float64."""
    counts = torch.zeros(len(tokenizer.vocabulary), dtype=torch.float64)
    for language in corpus_languages(corpus):
        texts = corpus_documents(corpus, language, "train")
        with progress(f"counting tokens of {language}", total=corpus_bytes(corpus, language), unit="bytes") as advance:
            while documents := list(islice(texts, _BATCH)):
                found = tokenizer.tokenizer.encode_batch_fast(documents, add_special_tokens=False)
                ids = torch.tensor([id_ for encoding in found for id_ in encoding.ids], dtype=torch.int64)
                counts += ids.bincount(minlength=len(counts))
                advance(sum(len(document.encode()) for document in documents))
    return counts
