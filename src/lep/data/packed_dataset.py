"""Training samples in a folder: written once, block after block, then read through memory maps.

`ids.bin` holds blocks of ids, `edges.bin` where documents begin and the text ends in each block, `bounds.bin` where
each block's edges begin in it, `counts.bin` how often each id occurs. `samples.json` is written last and says from what
they were made: without it the folder is unfinished.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from lep.errors import DataError
from lep.progress import progress

IGNORED = -100
"""Label of a position that carries no loss."""

DESCRIPTION = "samples.json"


@dataclass(frozen=True)
class Block:
    """Documents, or parts of them, that make one sample: ids of each, and how many of them end here."""

    parts: list[NDArray[np.int32]] = field(default_factory=list)
    length: int = 0
    ends: int = 0

    def with_part(self, part: NDArray[np.int32], *, last: bool) -> Block:
        """One more part."""
        return Block([*self.parts, part], self.length + len(part), self.ends + last)


@dataclass(frozen=True)
class Layout:
    """What the files hold: `samples` blocks of `block` ids, all below `vocabulary`."""

    samples: int
    block: int
    vocabulary: int

    @property
    def dtype(self) -> type[np.uint16 | np.int32]:
        """Of the ids on disk."""
        return np.uint16 if self.vocabulary <= 1 << 16 else np.int32


@dataclass(frozen=True, eq=False)
class Samples(Dataset[dict[str, Tensor]]):
    """Samples as a model takes them. Cheap to open and to send to another process: only the folder's name goes."""

    folder: Path
    layout: Layout
    inside_documents: bool
    """Whether attention is kept inside documents: positions restart at each, and its first token is not predicted."""
    tokens: int
    """Tokens of text in all samples, prefixes and ends included."""
    passes: Mapping[str, float]
    """How often the documents of each language are in the samples."""

    def __len__(self) -> int:
        return self.layout.samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """`input_ids` and `labels` (int64, `block` long), with `position_ids` or with `attention_mask`.

        Positions that restart tell transformers (5 and later) where documents part, if it is called with
        `use_cache=False` and without a mask. Padding is a document of its own, and no label.
        """
        edges = self.edges(index)
        ids = torch.from_numpy(self._ids[index].astype(np.int64))
        labels = ids.clone()
        labels[edges[-1] :] = IGNORED
        if not self.inside_documents:
            present = torch.arange(self.layout.block) < int(edges[-1])
            return {"input_ids": ids, "attention_mask": present.long(), "labels": labels}
        labels[edges[:-1]] = IGNORED
        starts = np.repeat(edges, np.diff(edges, append=self.layout.block))
        positions = torch.from_numpy(np.arange(self.layout.block) - starts)
        return {"input_ids": ids, "position_ids": positions, "labels": labels}

    def edges(self, index: int) -> NDArray[np.int64]:
        """Where the documents of a sample begin, then where its text ends."""
        if not -len(self) <= index < len(self):  # also what ends an iteration
            raise IndexError(f"sample {index} of {len(self)}")
        begin, end = self._bounds[index % len(self) :][:2]
        return self._edges[begin:end].astype(np.int64)

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """How often each id occurs as text, prefixes and ends included; as long as the vocabulary."""
        return np.fromfile(self.folder / "counts.bin", dtype=np.int64)

    @cached_property
    def _ids(self) -> NDArray[Any]:
        shape = (self.layout.samples, self.layout.block)
        return np.memmap(self.folder / "ids.bin", dtype=self.layout.dtype, mode="r", shape=shape)

    @cached_property
    def _edges(self) -> NDArray[np.int32]:
        return np.memmap(self.folder / "edges.bin", dtype=np.int32, mode="r")

    @cached_property
    def _bounds(self) -> NDArray[np.int64]:
        return np.memmap(self.folder / "bounds.bin", dtype=np.int64, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Without the memory maps, which would be copied."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def open_samples(
    folder: Path, *, made_from: Mapping[str, Any], layout: Layout, inside_documents: bool
) -> Samples | None:
    """Finished samples that were made from this, so laid out; none when there are no such samples."""
    file = folder / DESCRIPTION
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if found.get("made_from") != made_from or found["layout"] != asdict(layout):
        return None
    return Samples(folder, layout, inside_documents, found["tokens"], found["passes"])


def write_blocks(folder: Path, blocks: Iterable[Block], *, layout: Layout) -> int:
    """Write the files of all blocks, after removing what was there; returns their tokens.

    Appended, not written through a memory map: where the disk is full that would end the process without a word.

    Raises:
        DataError: less space is left on the disk than the blocks need.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).unlink(missing_ok=True)
    _require_space(folder, layout)
    counts = np.zeros(layout.vocabulary, dtype=np.int64)
    bound = tokens = 0
    with ExitStack() as stack:
        names = ("ids", "edges", "bounds", "counts")
        ids, edges, bounds, totals = files = [
            stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names
        ]
        bounds.write(np.int64(0).tobytes())
        advance = stack.enter_context(progress("packing", total=layout.samples * layout.block, unit="tokens"))
        for block in blocks:
            text = np.concatenate(block.parts)
            row = np.zeros(layout.block, dtype=layout.dtype)
            row[: len(text)] = text
            ids.write(row.tobytes())
            np.add.at(counts, text, 1)
            begins = np.cumsum([0, *map(len, block.parts)], dtype=np.int32)
            edges.write(begins.tobytes())
            bound += len(begins)
            bounds.write(np.int64(bound).tobytes())
            tokens += block.length
            advance(layout.block)
        totals.write(counts.tobytes())
        for file in files:  # before the description that says that they are whole
            file.flush()
            os.fsync(file.fileno())
    return tokens


def finish_samples(samples: Samples, *, made_from: Mapping[str, Any]) -> None:
    """Write the description, whole or not at all."""
    numbers = {"tokens": samples.tokens, "passes": samples.passes}
    text = json.dumps({"made_from": made_from, "layout": asdict(samples.layout)} | numbers, indent=1)
    fresh = samples.folder / f"{DESCRIPTION}.new"
    fresh.write_text(text + "\n", encoding="utf-8")
    fresh.replace(samples.folder / DESCRIPTION)


def _require_space(folder: Path, layout: Layout) -> None:
    needed = layout.samples * layout.block * np.dtype(layout.dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {layout.samples:,} samples of {layout.block:,} tokens take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are left on the disk; train on fewer tokens, or choose an out= on another disk"
        )
