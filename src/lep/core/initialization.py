"""Initialize the embeddings of new tokens from the old embeddings of their segmentation.

Axes: `old`, `new` vocabulary ids; `dim` the model's width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix, WritableEmbeddingMatrix, iter_row_blocks
from lep.core.vocabulary import VocabularyMap
from lep.results.embeddings import InitializationStats


def initialize_embeddings(
    old: EmbeddingMatrix, vocabulary_map: VocabularyMap, *, out: WritableEmbeddingMatrix
) -> InitializationStats:
    """Write E_new = T · E_old into `out`: copy the rows of shared tokens, average those of a segmentation.

    Shared rows are copied bit for bit; averages are computed in float32 (float64 for float64 matrices). Source: arXiv
    2412.21140 eq. 1-2.

    Args:
        old: old embeddings, `old × dim`, any float dtype.
        vocabulary_map: T.
        out: receives the new embeddings, `new × dim`; its dtype is the result's. Rows beyond the vocabulary, which no
            token has, are set to the mean of all others.

    Returns:
        How many rows were copied and composed, and their mean norms.

    Raises:
        ValueError: `old` or `out` does not fit the map, or a new token has no segmentation.

    Example:
        >>> import lep, torch
        >>> kinds = [lep.TokenKind.NORMAL]
        >>> old, new = lep.Vocabulary([b"a", b"b"], kinds * 2), lep.Vocabulary([b"a", b"b", b"ab"], kinds * 3)
        >>> mapping = lep.build_vocabulary_map(old=old, new=new, segment=lambda token: [0, 1])
        >>> out = torch.empty(3, 2)
        >>> lep.initialize_embeddings(torch.tensor([[1.0, 0.0], [3.0, 2.0]]), mapping, out=out).composed
        1
        >>> out.tolist()
        [[1.0, 0.0], [3.0, 2.0], [2.0, 1.0]]
    """
    check_shapes(vocabulary_map, old=old, new=out)
    if missing := vocabulary_map.missing.tolist():
        raise ValueError(f"{len(missing)} new tokens cannot be segmented into old ones; the first ids: {missing[:5]}")
    precision = torch.promote_types(old.dtype, torch.float32)
    total = torch.zeros(old.shape[1], dtype=torch.float64)
    norms = torch.empty(vocabulary_map.new_size, dtype=torch.float64)
    for span in iter_row_blocks(vocabulary_map.new_size, dim=old.shape[1]):
        ids = torch.arange(span.start, span.stop)
        means = vocabulary_map.average_rows(old, ids, dtype=precision)
        rows, copied = means.to(out.dtype), vocabulary_map.shared[ids]
        rows[copied] = old[vocabulary_map.segmentation[vocabulary_map.offsets[ids[copied]]]].to(out.dtype)
        out[span] = rows
        norms[span] = means.double().norm(dim=1)
        total += means.sum(dim=0, dtype=torch.float64)
    padding = (total / vocabulary_map.new_size).to(out.dtype).expand(len(out) - vocabulary_map.new_size, -1)
    out[vocabulary_map.new_size : len(out)] = padding
    shared, lengths = vocabulary_map.shared, vocabulary_map.lengths.double()
    return InitializationStats(
        copied=int(shared.sum()),
        composed=int((~shared).sum()),
        mean_segmentation_length=_mean(lengths[~shared]),
        mean_norm_copied=_mean(norms[shared]),
        mean_norm_composed=_mean(norms[~shared]),
    )


def check_shapes(vocabulary_map: VocabularyMap, *, old: EmbeddingMatrix, new: EmbeddingMatrix) -> None:
    """Check that the embeddings fit the map and each other.

    Args:
        vocabulary_map: T.
        old: old embeddings, `old × dim`.
        new: new embeddings, `new × dim`.

    Raises:
        ValueError: a matrix has fewer rows than its vocabulary, or the widths differ.
    """
    if old.shape[0] < vocabulary_map.old_size:
        raise ValueError(f"the old matrix has {old.shape[0]} rows for {vocabulary_map.old_size} old tokens")
    if new.shape[0] < vocabulary_map.new_size:
        raise ValueError(f"the new matrix has {new.shape[0]} rows for {vocabulary_map.new_size} new tokens")
    if old.shape[1] != new.shape[1]:
        raise ValueError(f"the old rows have {old.shape[1]} columns, the new ones {new.shape[1]}")


def _mean(values: Tensor) -> float:
    return float(values.mean()) if len(values) else 0.0
