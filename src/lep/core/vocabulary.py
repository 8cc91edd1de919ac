"""Which old rows make each new row: the conversion matrix T, exact in bytes.

Axes: `new`, `old` are ids of the two vocabularies; `nnz` the pieces of all new tokens, end to end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lep.core.table_rows import Rows

Segment = Callable[[bytes], Sequence[int]]


class Kind(IntEnum):
    """What sort of entry an id is. Two tokens are the same when bytes *and* sort agree (see `vocabulary_map`)."""

    HOLE = 0
    """No token has this id."""
    NORMAL = 1
    """Learnt from text."""
    BYTE = 2
    """A byte of SentencePiece's fallback alphabet: the same bytes as a one-byte token, but another entry."""
    SPECIAL = 3
    """Added or control token: literal text, matched whole, never composed."""


@dataclass(frozen=True)
class Vocabulary:
    """A vocabulary as bytes: `tokens[id]` are the bytes of token `id`, `kinds[id]` its sort."""

    tokens: Sequence[bytes]
    kinds: Sequence[Kind]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.kinds):
            raise ValueError(f"{len(self.tokens)} tokens but {len(self.kinds)} kinds")

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class VocabularyMap:
    """T in sparse rows: the pieces of new token `t` are `pieces[offsets[t] : offsets[t + 1]]`.

    A shared token has one piece, itself in the old vocabulary. A token without pieces (`missing`) has no row in T:
    a hole, a special token that the old vocabulary lacks, or bytes that it cannot spell.
    """

    pieces: Int[Tensor, " nnz"]
    shared: Bool[Tensor, " new"]
    offsets: Int[Tensor, " new+1"]
    old_size: int

    @property
    def new_size(self) -> int:
        """Number of new ids, holes included."""
        return len(self.shared)

    @property
    def lengths(self) -> Int[Tensor, " new"]:
        """Number of pieces K of each new token."""
        return self.offsets.diff()

    @property
    def missing(self) -> Int[Tensor, " missing"]:
        """New ids without a row in T."""
        return (self.lengths == 0).nonzero().flatten()

    def without(self, ids: Int[Tensor, " n"]) -> VocabularyMap:
        """The same map with these new tokens missing."""
        stays = torch.ones(self.new_size, dtype=torch.bool)
        stays[ids] = False
        lengths = self.lengths * stays
        offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        pieces = self.pieces[stays.repeat_interleave(self.lengths)]
        return VocabularyMap(pieces, self.shared & stays, offsets, self.old_size)

    def average(
        self, table: Rows, ids: Int[Tensor, " n"], *, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> Float[Tensor, "n dim"]:
        """Rows of T · table: the mean of each token's pieces, with multiplicity, computed in `dtype`.

        Args:
            table: the old rows, any float dtype; only the rows needed are touched.
            ids: new ids; each must have pieces.
            dtype: precision of the sum and of the result.
            device: where it is computed.

        Source: METHOD §2, T; arXiv 2412.21140 eq. 1–2.
        """
        lengths = self.lengths[ids]
        first = self.offsets[ids] - (lengths.cumsum(0) - lengths)
        places = first.repeat_interleave(lengths) + torch.arange(int(lengths.sum()))
        gathered = table[self.pieces[places]].to(device).to(dtype)
        if bool((lengths == 1).all()):
            return gathered
        return torch.segment_reduce(gathered, "mean", lengths=lengths.to(device), axis=0)


def vocabulary_map(*, old: Vocabulary, new: Vocabulary, segment: Segment) -> VocabularyMap:
    """Find every new token in the old vocabulary, by its bytes, or spell it with old tokens.

    A special token is shared with the special token of the same text and is never composed. Any other token is shared
    with the token of the same bytes and sort, else of the same bytes (a byte of the fallback alphabet and a one-byte
    token spell the same). What is left is segmented.

    Args:
        old: vocabulary of the base model.
        new: vocabulary of the adapted model.
        segment: the old tokenizer, on bytes; returns old ids, or none where it cannot spell the bytes.

    Raises:
        ValueError: `segment` returned pieces whose bytes, joined, are not the token's bytes.

    Source: METHOD §3.
    """
    exact, by_bytes = _index(old)
    pieces: list[int] = []
    offsets, shared = [0], []
    for token, kind in zip(new.tokens, new.kinds, strict=True):
        match = exact.get((token, kind))
        if match is None and kind in (Kind.NORMAL, Kind.BYTE):
            match = by_bytes.get(token)
        shared.append(match is not None)
        if match is not None:
            pieces.append(match)
        elif kind in (Kind.NORMAL, Kind.BYTE):
            pieces.extend(_spell(token, segment=segment, old=old))
        offsets.append(len(pieces))
    return VocabularyMap(
        pieces=torch.tensor(pieces, dtype=torch.int64),
        offsets=torch.tensor(offsets, dtype=torch.int64),
        shared=torch.tensor(shared, dtype=torch.bool),
        old_size=len(old),
    )


def _index(old: Vocabulary) -> tuple[dict[tuple[bytes, Kind], int], dict[bytes, int]]:
    """Old ids by bytes and sort, and by bytes alone (normal before byte pieces); the lowest id wins."""
    exact: dict[tuple[bytes, Kind], int] = {}
    for id_, (token, kind) in enumerate(zip(old.tokens, old.kinds, strict=True)):
        if kind is not Kind.HOLE and token:
            exact.setdefault((token, kind), id_)
    by_bytes = {token: id_ for (token, kind), id_ in exact.items() if kind is Kind.BYTE}
    by_bytes |= {token: id_ for (token, kind), id_ in exact.items() if kind is Kind.NORMAL}
    return exact, by_bytes


def _spell(token: bytes, *, segment: Segment, old: Vocabulary) -> Sequence[int]:
    ids = segment(token)
    spelt = b"".join(old.tokens[id_] for id_ in ids)
    if ids and spelt != token:
        raise ValueError(f"the pieces {list(ids)} of token {token!r} spell {spelt!r}")
    return ids
