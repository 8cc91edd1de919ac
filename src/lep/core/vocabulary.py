"""Map a new vocabulary to an old one: the conversion matrix T, exact in bytes.

Axes: `new`, `old` are ids of the two vocabularies; `nnz` the old tokens of all segmentations, concatenated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix

SegmentFunction = Callable[[bytes], Sequence[int]]


class TokenKind(IntEnum):
    """Kind of vocabulary entry. Two tokens are equal when bytes *and* kind agree (see `build_vocabulary_map`)."""

    UNUSED = 0
    """No token has this id."""
    NORMAL = 1
    """Learned from text."""
    BYTE_FALLBACK = 2
    """A fallback byte of SentencePiece: the same bytes as a one-byte token, but another entry."""
    SPECIAL = 3
    """Added or control token: literal text, never segmented."""


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary as bytes: `tokens[id]` are the bytes of token `id`, `kinds[id]` is its kind."""

    tokens: Sequence[bytes]
    kinds: Sequence[TokenKind]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.kinds):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.kinds)} kinds")

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class VocabularyMap:
    """T in sparse rows: new token `t` is segmented into `segmentation[offsets[t] : offsets[t + 1]]`.

    A shared token is segmented into itself. A token without a segmentation (`missing`) has no row in T: an unused id, a
    special token that the old vocabulary lacks, or bytes that it cannot encode.
    """

    segmentation: Int[Tensor, " nnz"]
    shared: Bool[Tensor, " new"]
    offsets: Int[Tensor, " new+1"]
    old_size: int

    @property
    def new_size(self) -> int:
        """Return the number of new ids, unused ones included."""
        return len(self.shared)

    @property
    def lengths(self) -> Int[Tensor, " new"]:
        """Return the number of old tokens K of each new token."""
        return self.offsets.diff()

    @property
    def missing(self) -> Int[Tensor, " missing"]:
        """Return the new ids without a row in T."""
        return (self.lengths == 0).nonzero().flatten()

    def exclude(self, ids: Int[Tensor, " n"]) -> VocabularyMap:
        """Return the same map without the rows of these new tokens."""
        kept = torch.ones(self.new_size, dtype=torch.bool)
        kept[ids] = False
        lengths = self.lengths * kept
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        segmentation = self.segmentation[kept.repeat_interleave(self.lengths)]
        return VocabularyMap(segmentation, self.shared & kept, offsets, self.old_size)

    def average_rows(
        self,
        embeddings: EmbeddingMatrix,
        ids: Int[Tensor, " n"],
        *,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> Float[Tensor, "n dim"]:
        """Return rows of T · E: the mean of the old rows of each token's segmentation, with multiplicity.

        Source: arXiv 2412.21140 eq. 1-2.

        Args:
            embeddings: old embeddings E, `old × dim`, any float dtype; only the needed rows are read.
            ids: new ids; each must have a segmentation.
            dtype: precision of the sum and of the result.
            device: where it is computed.

        Returns:
            One row for each id.
        """
        lengths = self.lengths[ids]
        first = self.offsets[ids] - (lengths.cumsum(0) - lengths)
        positions = first.repeat_interleave(lengths) + torch.arange(int(lengths.sum()))
        gathered = embeddings[self.segmentation[positions]].to(device).to(dtype)
        if bool((lengths == 1).all()):
            return gathered
        return torch.segment_reduce(gathered, "mean", lengths=lengths.to(device), axis=0)


def build_vocabulary_map(*, old: Vocabulary, new: Vocabulary, segment: SegmentFunction) -> VocabularyMap:
    """Find every new token in the old vocabulary by its bytes, or segment it into old tokens.

    A special token is shared with the special token of the same text and is never segmented. Any other token is shared
    with the token of the same bytes and kind, else with one of the same bytes (a fallback byte and a one-byte token
    have the same). The rest is segmented. See [Exact maps](docs/mathematics.md#maps-that-are-exact-in-bytes).

    Args:
        old: vocabulary of the base model.
        new: vocabulary of the adapted model.
        segment: the old tokenizer on bytes; returns old ids, or no ids where it cannot encode the bytes.

    Returns:
        T.

    Raises:
        ValueError: `segment` returned tokens whose concatenated bytes are not the token's bytes.

    Example:
        >>> kinds = [TokenKind.NORMAL]
        >>> old, new = Vocabulary([b"a", b"b"], kinds * 2), Vocabulary([b"b", b"ab"], kinds * 2)
        >>> mapping = build_vocabulary_map(old=old, new=new, segment=lambda token: [0, 1])
        >>> mapping.segmentation.tolist(), mapping.offsets.tolist(), mapping.shared.tolist()
        ([1, 0, 1], [0, 1, 3], [True, False])
    """
    exact, by_bytes = _index_tokens(old)
    segmentation: list[int] = []
    offsets, shared = [0], []
    for token, kind in zip(new.tokens, new.kinds, strict=True):
        match = exact.get((token, kind))
        if match is None and kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK):
            match = by_bytes.get(token)
        shared.append(match is not None)
        if match is not None:
            segmentation.append(match)
        elif kind in (TokenKind.NORMAL, TokenKind.BYTE_FALLBACK):
            segmentation.extend(_segment_checked(token, segment=segment, old=old))
        offsets.append(len(segmentation))
    return VocabularyMap(
        segmentation=torch.tensor(segmentation, dtype=torch.int64),
        offsets=torch.tensor(offsets, dtype=torch.int64),
        shared=torch.tensor(shared, dtype=torch.bool),
        old_size=len(old),
    )


def _index_tokens(old: Vocabulary) -> tuple[dict[tuple[bytes, TokenKind], int], dict[bytes, int]]:
    """Index old ids by bytes and kind, and by bytes alone (normal before fallback bytes); the lowest id wins."""
    exact: dict[tuple[bytes, TokenKind], int] = {}
    for id_, (token, kind) in enumerate(zip(old.tokens, old.kinds, strict=True)):
        if kind is not TokenKind.UNUSED and token:
            exact.setdefault((token, kind), id_)
    by_bytes = {token: id_ for (token, kind), id_ in exact.items() if kind is TokenKind.BYTE_FALLBACK}
    by_bytes |= {token: id_ for (token, kind), id_ in exact.items() if kind is TokenKind.NORMAL}
    return exact, by_bytes


def _segment_checked(token: bytes, *, segment: SegmentFunction, old: Vocabulary) -> Sequence[int]:
    ids = segment(token)
    joined = b"".join(old.tokens[id_] for id_ in ids)
    if ids and joined != token:
        raise ValueError(f"the segmentation {list(ids)} of token {token!r} has the bytes {joined!r}")
    return ids
