"""Packed training samples in a folder: written once in sequence, then read through memory maps.

`token_ids.bin` has the ids of all samples; `boundaries.bin` where the documents begin and the text ends in each sample;
`boundary_offsets.bin` where the boundaries of each sample begin in that file; `token_counts.bin` how often each id
occurs. `metadata.json` is written last, with a key of what the samples were made from: without it the folder is
incomplete.
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
from lep.io.atomic import write_atomically
from lep.progress import track_progress

IGNORE_INDEX = -100
"""Label of a position that carries no loss."""

METADATA_FILE = "metadata.json"


@dataclass(frozen=True)
class PackedSample:
    """The ids of a sample: a chunk for each document or part of one, and how many documents end in it."""

    chunks: list[NDArray[np.int32]] = field(default_factory=list)
    length: int = 0
    completed_documents: int = 0

    def with_chunk(self, chunk: NDArray[np.int32], *, completes_document: bool) -> PackedSample:
        """Return the sample with one more chunk."""
        return PackedSample(
            [*self.chunks, chunk], self.length + len(chunk), self.completed_documents + completes_document
        )


@dataclass(frozen=True)
class PackedLayout:
    """Shape of the files."""

    num_samples: int
    sequence_length: int
    vocab_size: int
    """All ids are below it."""

    @property
    def dtype(self) -> type[np.uint16 | np.int32]:
        """Return the dtype of the ids on disk."""
        return np.uint16 if self.vocab_size <= 1 << 16 else np.int32


@dataclass(frozen=True, eq=False)
class PackedDataset(Dataset[dict[str, Tensor]]):
    """Samples as a model takes them. It is cheap to open and to pickle, as only the name of the folder is sent."""

    folder: Path
    layout: PackedLayout
    document_masking: bool
    """Keep attention inside documents: positions restart at each, and its first token carries no loss."""
    tokens: int
    """Tokens of text in all samples, with prefix and end tokens, without padding."""
    epochs_by_language: Mapping[str, float]
    """Passes over the documents of each language."""

    def __len__(self) -> int:
        return self.layout.num_samples

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return `input_ids`, `labels` (int64, `sequence_length`) and `position_ids` or `attention_mask`.

        From restarting positions, transformers (5 and later) infers the documents if it is called with
        `use_cache=False` and without a mask. Padding is a document of its own without labels.
        """
        boundaries = self.document_boundaries(index)
        ids = torch.from_numpy(self._token_ids[index].astype(np.int64))
        labels = ids.clone()
        labels[boundaries[-1] :] = IGNORE_INDEX
        if not self.document_masking:
            is_text = torch.arange(self.layout.sequence_length) < int(boundaries[-1])
            return {"input_ids": ids, "attention_mask": is_text.long(), "labels": labels}
        labels[boundaries[:-1]] = IGNORE_INDEX
        starts = np.repeat(boundaries, np.diff(boundaries, append=self.layout.sequence_length))
        positions = torch.from_numpy(np.arange(self.layout.sequence_length) - starts)
        return {"input_ids": ids, "position_ids": positions, "labels": labels}

    def document_boundaries(self, index: int) -> NDArray[np.int64]:
        """Return where the documents of a sample begin, then where its text ends.

        Args:
            index: Of the sample.

        Returns:
            Positions in the sample, in ascending order.

        Raises:
            IndexError: There is no such sample.
        """
        if not -len(self) <= index < len(self):  # also ends an iteration
            raise IndexError(f"sample {index} of {len(self)}")
        start, end = self._boundary_offsets[index % len(self) :][:2]
        return self._boundaries[start:end].astype(np.int64)

    @cached_property
    def token_counts(self) -> NDArray[np.int64]:
        """Return how often each id of the vocabulary occurs, with prefix and end tokens, without padding."""
        return np.fromfile(self.folder / "token_counts.bin", dtype=np.int64)

    @cached_property
    def _token_ids(self) -> NDArray[Any]:
        shape = (self.layout.num_samples, self.layout.sequence_length)
        return np.memmap(self.folder / "token_ids.bin", dtype=self.layout.dtype, mode="r", shape=shape)

    @cached_property
    def _boundaries(self) -> NDArray[np.int32]:
        return np.memmap(self.folder / "boundaries.bin", dtype=np.int32, mode="r")

    @cached_property
    def _boundary_offsets(self) -> NDArray[np.int64]:
        return np.memmap(self.folder / "boundary_offsets.bin", dtype=np.int64, mode="r")

    def __getstate__(self) -> dict[str, Any]:
        """Pickle without the memory maps, which would be copied."""
        return {item.name: getattr(self, item.name) for item in fields(self)}


def open_packed_dataset(
    folder: Path, *, cache_key: Mapping[str, Any], layout: PackedLayout, document_masking: bool
) -> PackedDataset | None:
    """Open finished samples.

    Args:
        folder: With the samples.
        cache_key: Identifies what the samples are made from.
        layout: Of the samples.
        document_masking: Keep attention inside documents.

    Returns:
        The samples; None if the folder has none with this key and layout.
    """
    file = folder / METADATA_FILE
    metadata = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if metadata.get("cache_key") != cache_key or metadata["layout"] != asdict(layout):
        return None
    return PackedDataset(folder, layout, document_masking, metadata["tokens"], metadata["epochs_by_language"])


def write_packed_samples(folder: Path, samples: Iterable[PackedSample], *, layout: PackedLayout) -> int:
    """Write the files of all samples in place of existing ones, without the metadata.

    They are appended to, not written through a memory map, which would kill the process if the disk gets full.

    Args:
        folder: Is created.
        samples: `layout.num_samples` of them.
        layout: Of the samples.

    Returns:
        Tokens of text in all samples.

    Raises:
        DataError: The disk has less free space than the samples need.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / METADATA_FILE).unlink(missing_ok=True)
    _check_disk_space(folder, layout)
    counts = np.zeros(layout.vocab_size, dtype=np.int64)
    num_boundaries = tokens = 0
    with ExitStack() as stack:
        names = ("token_ids", "boundaries", "boundary_offsets", "token_counts")
        ids_file, boundaries_file, offsets_file, counts_file = files = [
            stack.enter_context((folder / f"{name}.bin").open("wb")) for name in names
        ]
        offsets_file.write(np.int64(0).tobytes())
        advance = stack.enter_context(
            track_progress("packing", total=layout.num_samples * layout.sequence_length, unit="tokens")
        )
        for sample in samples:
            ids = np.concatenate(sample.chunks)
            row = np.zeros(layout.sequence_length, dtype=layout.dtype)
            row[: len(ids)] = ids
            ids_file.write(row.tobytes())
            np.add.at(counts, ids, 1)
            boundaries = np.cumsum([0, *map(len, sample.chunks)], dtype=np.int32)
            boundaries_file.write(boundaries.tobytes())
            num_boundaries += len(boundaries)
            offsets_file.write(np.int64(num_boundaries).tobytes())
            tokens += sample.length
            advance(layout.sequence_length)
        counts_file.write(counts.tobytes())
        for file in files:  # before the metadata, which marks them as complete
            file.flush()
            os.fsync(file.fileno())
    return tokens


def write_metadata(dataset: PackedDataset, *, cache_key: Mapping[str, Any]) -> None:
    """Write the metadata, which marks the folder as complete."""
    metadata = {
        "cache_key": cache_key,
        "layout": asdict(dataset.layout),
        "tokens": dataset.tokens,
        "epochs_by_language": dataset.epochs_by_language,
    }
    write_atomically(dataset.folder / METADATA_FILE, json.dumps(metadata, indent=1) + "\n")


def _check_disk_space(folder: Path, layout: PackedLayout) -> None:
    needed = layout.num_samples * layout.sequence_length * np.dtype(layout.dtype).itemsize
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}: {layout.num_samples:,} samples of {layout.sequence_length:,} tokens take {needed / 1e9:.1f} "
            f"GB, and {free / 1e9:.1f} GB are free on the disk; train on fewer tokens, or give an out= on another disk"
        )
