"""Check the rows of the embedding matrices: zeros, NaN and infinity, equal rows, and rows that were never trained.

Each matrix is read once, block by block; a second pass reads only rows that may be equal. A few numbers are kept of
each row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lep.core.embedding_matrix import EmbeddingMatrix
from lep.core.untrained_rows import MIN_UNUSED_ROWS, is_near_unused, is_short
from lep.core.vocabulary import TokenKind, Vocabulary
from lep.inspection.findings import (
    Fact,
    Finding,
    InspectedFolder,
    Problem,
    Remark,
    format_count,
    format_token,
    format_tokens,
)

ROWS_PER_BLOCK = 512
"""Rows that are read at once, few enough for the CPU cache."""

_RESERVED_PATTERN = re.compile(rb"reserved|unused|placeholder|extra_|dummy", re.IGNORECASE)
_INTEGER_DTYPES = {8: torch.int64, 4: torch.int32, 2: torch.int16}


@dataclass(frozen=True)
class RowStatistics:
    """Numbers that one pass keeps of every row."""

    max_abs_values: Tensor
    """The largest absolute value: 0 for a row of zeros, not finite if a value is not finite."""
    norms: Tensor
    center_distances: Tensor
    hashes: Tensor
    """Equal for rows of equal bytes, and almost always different for others."""


def check_embedding_rows(folder: InspectedFolder) -> Iterator[Finding]:
    """Check the rows of each embedding matrix by the kinds of their tokens."""
    vocabulary = folder.tokenizer.vocabulary if "tokenizer" in folder.contents else None
    for name, matrix in folder.model.embedding_matrices().items():
        unused = _build_unused_mask(vocabulary, row_count=len(matrix))
        center = _compute_finite_mean(matrix, unused.nonzero().flatten())
        statistics = compute_row_statistics(matrix, center=center)
        valid = statistics.max_abs_values.isfinite() & (statistics.max_abs_values > 0)
        if bool(valid.any()):
            norms = statistics.norms[valid]
            low, median, high = float(norms.min()), float(norms.median()), float(norms.max())
            yield Fact("rows", name, f"norms from {low:.3g} to {high:.3g}, median {median:.3g}")
        yield from _check_invalid_rows(name, statistics, unused=unused, vocabulary=vocabulary)
        groups = find_duplicate_rows(matrix, statistics.hashes, valid.nonzero().flatten())
        yield from _check_duplicate_rows(name, groups, unused, vocabulary)
        yield from _check_untrained_rows(name, statistics, valid=valid, unused=unused, vocabulary=vocabulary)


def compute_row_statistics(matrix: EmbeddingMatrix, *, center: Tensor | None) -> RowStatistics:
    """Compute statistics of every row in one pass, `ROWS_PER_BLOCK` rows at a time.

    Args:
        matrix: `rows × dim`, of any float dtype.
        center: The point that distances are measured from, of shape `dim`; None: the origin.

    Returns:
        One value of each row.
    """
    blocks = (
        _compute_block_statistics(matrix[start : start + ROWS_PER_BLOCK], center)
        for start in range(0, len(matrix), ROWS_PER_BLOCK)
    )
    return RowStatistics(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def _compute_block_statistics(block: Tensor, center: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    block = block.contiguous()
    rows = block.float()
    norms = rows.norm(dim=1)
    distances = norms if center is None else (rows - center).norm(dim=1)
    return block.abs().amax(dim=1).float(), norms, distances, _hash_rows(block)


def _hash_rows(block: Tensor) -> Tensor:
    """Hash the bytes of each row: the sum of its integers with random weights."""
    width = next(width for width in _INTEGER_DTYPES if block.shape[1] * block.itemsize % width == 0)
    integers = block.view(_INTEGER_DTYPES[width])
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (integers.shape[1],), generator=generator) * 2 + 1
    return (integers * weights).sum(dim=1)


def find_duplicate_rows(matrix: EmbeddingMatrix, hashes: Tensor, ids: Tensor) -> list[list[int]]:
    """Find groups of rows that are equal in every value.

    Args:
        matrix: `rows × dim`; only rows with equal hashes are read.
        hashes: The hash of every row; see `RowStatistics`.
        ids: The rows to compare.

    Returns:
        The ids of each group, the largest group first.
    """
    order = ids[hashes[ids].argsort(stable=True)]
    false, equal = torch.zeros(1, dtype=torch.bool), hashes[order].diff() == 0
    order = order[torch.cat((false, equal)) | torch.cat((equal, false))] if len(order) else order
    groups: list[list[int]] = []
    previous_row: Tensor | None = None
    for start in range(0, len(order), ROWS_PER_BLOCK):
        block_ids = order[start : start + ROWS_PER_BLOCK]
        block = matrix[block_ids]
        previous = torch.cat((block[:1] * torch.nan if previous_row is None else previous_row, block[:-1]))
        is_equal = (block == previous).all(dim=1)
        for id_, same in zip(block_ids.tolist(), is_equal.tolist(), strict=True):
            groups[-1].append(id_) if same else groups.append([id_])
        previous_row = block[-1:]
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)


def _build_unused_mask(vocabulary: Vocabulary | None, *, row_count: int) -> Tensor:
    """Mark the rows that no text uses: unused ids, padding, and special tokens with names of reserved ones."""
    if vocabulary is None:
        return torch.zeros(row_count, dtype=torch.bool)
    unused = [
        kind is TokenKind.UNUSED or (kind is TokenKind.SPECIAL and bool(_RESERVED_PATTERN.search(text)))
        for text, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    ]
    return torch.tensor((unused + [True] * row_count)[:row_count], dtype=torch.bool)


def _compute_finite_mean(matrix: EmbeddingMatrix, ids: Tensor) -> Tensor | None:
    """Compute the mean of those rows that are finite; None with fewer than `MIN_UNUSED_ROWS`."""
    total, count = torch.zeros(()), 0
    for start in range(0, len(ids), ROWS_PER_BLOCK):
        block = matrix[ids[start : start + ROWS_PER_BLOCK]].float()
        block = block[block.isfinite().all(dim=1)]
        total, count = total + block.sum(dim=0), count + len(block)
    return total / count if count >= MIN_UNUSED_ROWS else None


def _check_invalid_rows(
    name: str, statistics: RowStatistics, *, unused: Tensor, vocabulary: Vocabulary | None
) -> Iterator[Finding]:
    """Find rows without a direction: a problem for normal tokens, a remark for special and unused ids."""
    is_normal = ~unused
    if vocabulary is not None:
        special = [id_ for id_, kind in enumerate(vocabulary.kinds[: len(unused)]) if kind is TokenKind.SPECIAL]
        is_normal[special] = False
    for description, invalid in (
        ("of zeros", statistics.max_abs_values == 0),
        ("with NaN or infinity", ~statistics.max_abs_values.isfinite()),
    ):
        if ids := (invalid & is_normal).nonzero().flatten().tolist():
            rows = f"{format_count(len(ids), 'row')} {description}: {format_tokens(ids, vocabulary)}"
            yield Problem(f"{name}: {rows}; create this matrix again, or copy these rows from the original model")
        if ids := (invalid & ~is_normal).nonzero().flatten().tolist():
            rows = f"{format_count(len(ids), 'row')} {description} for special or unused ids"
            yield Remark(f"{name}: {rows}: {format_tokens(ids, vocabulary)}")


def _check_duplicate_rows(
    name: str, groups: Sequence[Sequence[int]], unused: Tensor, vocabulary: Vocabulary | None
) -> Iterator[Finding]:
    yield Fact("rows", f"{name}, equal", _format_group_sizes(groups, "row") if groups else "none")
    used_groups = [group for group in groups if not bool(unused[list(group)].all())]
    if used_groups:
        examples = "; ".join(
            " = ".join(format_token(id_, vocabulary) for id_ in group[:3]) for group in used_groups[:3]
        )
        yield Remark(
            f"{name}: {_format_group_sizes(used_groups, 'token')} have equal rows, so the model cannot distinguish "
            f"them: {examples}{'; …' if len(used_groups) > 3 else ''}"
        )


def _format_group_sizes(groups: Sequence[Sequence[int]], noun: str) -> str:
    return f"{format_count(sum(map(len, groups)), noun)} in {format_count(len(groups), 'group')}"


def _check_untrained_rows(
    name: str, statistics: RowStatistics, *, valid: Tensor, unused: Tensor, vocabulary: Vocabulary | None
) -> Iterator[Finding]:
    """Find rows that are as near to the mean of unused rows as those are, or much shorter than the others.

    Source: Land and Bartolo, arXiv 2405.05417. They verify such candidates with the model; here no model is run.
    """
    used = valid & ~unused
    near = is_near_unused(statistics.center_distances, used=used, unused=valid & unused)
    if near is not None:
        ids = near.nonzero().flatten().tolist()
        if 2 * len(ids) > int(used.sum()):
            yield Fact("rows", f"{name}, untrained", "not known: unused rows lie among the others")
        elif ids:
            yield Remark(
                f"{name}: {format_count(len(ids), 'row')} may be untrained, as near to the mean of the "
                f"{int((valid & unused).sum()):,} unused rows as 90 % of those: {format_tokens(ids, vocabulary)}"
            )
    if bool(used.any()):
        short = used & is_short(statistics.norms, median_norm=statistics.norms[used].median())
        if ids := short.nonzero().flatten().tolist():
            rows = f"{format_count(len(ids), 'row')} may be untrained, shorter than a tenth of the median"
            yield Remark(f"{name}: {rows}: {format_tokens(ids, vocabulary)}")
