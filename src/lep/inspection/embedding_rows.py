"""The rows of the tables: zeros, numbers that are none, rows alike, and rows that training never moved.

One pass a table, block by block; a second touches only the rows that may be alike. Of each row a few numbers are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lep.core.table_rows import Rows
from lep.core.vocabulary import Kind, Vocabulary
from lep.inspection.findings import Fact, Finding, Folder, Problem, Remark, counted, few, named

BLOCK = 512
"""Rows at once: few enough to stay in the processor's cache."""
SHORT = 0.1
"""A row is short below this share of the median norm."""
FEWEST_UNUSED = 8
"""So many unused rows are needed to know how an untrained one looks."""
NINE_TENTHS = 0.9

_RESERVED = re.compile(rb"reserved|unused|placeholder|extra_|dummy", re.IGNORECASE)
_WORDS = {8: torch.int64, 4: torch.int32, 2: torch.int16}


@dataclass(frozen=True)
class Scan:
    """What one pass keeps of every row."""

    peaks: Tensor
    """The largest absolute value: 0 for a row of zeros, not finite where one value is not."""
    norms: Tensor
    distances: Tensor
    """To the given centre."""
    keys: Tensor
    """Equal for rows of equal bytes, and hardly ever else."""


def about_rows(folder: Folder) -> Iterator[Finding]:
    """What is odd about the rows of each table, by the sort of their tokens."""
    vocabulary = folder.tokenizer.vocabulary if "tokenizer" in folder.holds else None
    for name, table in folder.model.tables().items():
        unused = _unused(vocabulary, rows=len(table))
        centre = _mean(table, unused.nonzero().flatten())
        found = scan(table, centre=centre)
        good = found.peaks.isfinite() & (found.peaks > 0)
        if bool(good.any()):
            low, median, high = (float(of(found.norms[good])) for of in (torch.min, torch.median, torch.max))
            yield Fact("rows", name, f"norms from {low:.3g} to {high:.3g}, half of them below {median:.3g}")
        yield from _bad(name, found, unused=unused, vocabulary=vocabulary)
        yield from _alike(name, duplicates(table, found.keys, good.nonzero().flatten()), unused, vocabulary)
        yield from _untrained(name, found, good=good, unused=unused, vocabulary=vocabulary)


def scan(table: Rows, *, centre: Tensor | None) -> Scan:
    """One pass over a table, `BLOCK` rows at a time.

    Args:
        table: any float dtype.
        centre: where distances are measured from; the origin when none is given.
    """
    blocks = (_scan_block(table[at : at + BLOCK], centre) for at in range(0, len(table), BLOCK))
    return Scan(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))


def _scan_block(block: Tensor, centre: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    block = block.contiguous()
    exact = block.float()
    norms = exact.norm(dim=1)
    distances = norms if centre is None else (exact - centre).norm(dim=1)
    return block.abs().amax(dim=1).float(), norms, distances, _keys(block)


def _keys(block: Tensor) -> Tensor:
    """A sum over each row's bytes, as integers, with random weights: a row of other bytes gets another, as a rule."""
    width = next(width for width in _WORDS if block.shape[1] * block.itemsize % width == 0)
    words = block.view(_WORDS[width])
    chance = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (words.shape[1],), generator=chance) * 2 + 1
    return (words * weights).sum(dim=1)


def duplicates(table: Rows, keys: Tensor, ids: Tensor) -> list[list[int]]:
    """Groups of ids whose rows are equal in every value, the largest group first.

    Args:
        table: read again only where keys are equal.
        keys: of all rows, see `Scan`.
        ids: the rows to compare.
    """
    order = ids[keys[ids].argsort(stable=True)]
    none, equal = torch.zeros(1, dtype=torch.bool), keys[order].diff() == 0
    order = order[torch.cat((none, equal)) | torch.cat((equal, none))] if len(order) else order
    groups: list[list[int]] = []
    last: Tensor | None = None
    for at in range(0, len(order), BLOCK):
        block = table[order[at : at + BLOCK]]
        before = torch.cat((block[:1] * torch.nan if last is None else last, block[:-1]))
        for id_, same in zip(order[at : at + BLOCK].tolist(), (block == before).all(dim=1).tolist(), strict=True):
            groups[-1].append(id_) if same else groups.append([id_])
        last = block[-1:]
    return sorted((group for group in groups if len(group) > 1), key=len, reverse=True)


def _unused(vocabulary: Vocabulary | None, *, rows: int) -> Tensor:
    """Which rows no text uses: holes, padding, and special tokens that are kept in reserve by their names."""
    if vocabulary is None:
        return torch.zeros(rows, dtype=torch.bool)
    entries = zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    spare = [kind is Kind.HOLE or (kind is Kind.SPECIAL and bool(_RESERVED.search(text))) for text, kind in entries]
    return torch.tensor((spare + [True] * rows)[:rows], dtype=torch.bool)


def _mean(table: Rows, ids: Tensor) -> Tensor | None:
    """The mean of some rows that are finite; none of too few."""
    total, count = torch.zeros(()), 0
    for at in range(0, len(ids), BLOCK):
        block = table[ids[at : at + BLOCK]].float()
        block = block[block.isfinite().all(dim=1)]
        total, count = total + block.sum(dim=0), count + len(block)
    return total / count if count >= FEWEST_UNUSED else None


def _bad(name: str, found: Scan, *, unused: Tensor, vocabulary: Vocabulary | None) -> Iterator[Finding]:
    """Rows without a direction: wrong for a token of the text, and for others to be known."""
    ordinary = ~unused
    if vocabulary is not None:
        special = [id_ for id_, kind in enumerate(vocabulary.kinds[: len(unused)]) if kind is Kind.SPECIAL]
        ordinary[special] = False
    for what, bad in (("of zeros", found.peaks == 0), ("with NaN or infinity", ~found.peaks.isfinite())):
        if ids := (bad & ordinary).nonzero().flatten().tolist():
            words = f"{name}: {counted(len(ids), 'row')} {what}: {few(ids, vocabulary)}"
            yield Problem(f"{words}; make this table again, or take these rows from the model that it came from")
        if ids := (bad & ~ordinary).nonzero().flatten().tolist():
            yield Remark(f"{name}: {counted(len(ids), 'row')} {what} of special or unused ids: {few(ids, vocabulary)}")


def _alike(
    name: str, groups: Sequence[Sequence[int]], unused: Tensor, vocabulary: Vocabulary | None
) -> Iterator[Finding]:
    count = sum(map(len, groups))
    words = f"{counted(count, 'row')} in {counted(len(groups), 'group')}" if groups else "none"
    yield Fact("rows", f"{name}, alike", words)
    told = [group for group in groups if not bool(unused[list(group)].all())]
    if told:
        shown = "; ".join(" = ".join(named(id_, vocabulary) for id_ in group[:3]) for group in told[:3])
        count = sum(map(len, told))
        yield Remark(
            f"{name}: {counted(count, 'row')} of tokens in {counted(len(told), 'group')} are equal, so that the model "
            f"cannot tell these tokens apart: {shown}{'; …' if len(told) > 3 else ''}"
        )


def _untrained(
    name: str, found: Scan, *, good: Tensor, unused: Tensor, vocabulary: Vocabulary | None
) -> Iterator[Finding]:
    """Rows that look as those which no text uses: near the mean of these, or far shorter than the rest.

    Source: Land and Bartolo, arXiv 2405.05417: distance of an input row to the mean of known unused rows. They show
    candidates to the model; here nothing is run, so that these stay candidates.
    """
    real, spare = good & ~unused, good & unused
    if int(spare.sum()) >= FEWEST_UNUSED and bool(real.any()):
        radius = torch.quantile(found.distances[spare], NINE_TENTHS)
        ids = (real & (found.distances <= radius)).nonzero().flatten().tolist()
        if 2 * len(ids) > int(real.sum()):
            yield Fact("rows", f"{name}, untrained", "cannot be told: unused rows lie among the others")
        elif ids:
            yield Remark(
                f"{name}: {counted(len(ids), 'row')} as near to the mean of the {int(spare.sum()):,} unused rows as "
                f"nine tenths of those, as if never trained: {few(ids, vocabulary)}"
            )
    if bool(real.any()):
        short = real & (found.norms < SHORT * found.norms[real].median())
        if ids := short.nonzero().flatten().tolist():
            words = f"{name}: {counted(len(ids), 'row')} shorter than a tenth of the median, as if never trained"
            yield Remark(f"{words}: {few(ids, vocabulary)}")
