"""Safetensors shards, read lazily and written without being held.

Reading maps a file into memory: a tensor costs nothing until its rows are touched. Writing a shard copies the bytes of
the tensors that stay, file to file, and leaves room for the ones that change.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from lep.errors import CheckpointError

FLOATS: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The dtypes that a table may have."""

_HEADER_LIMIT = 100_000_000
_CHUNK = 1 << 24
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class Entry:
    """One tensor of a shard."""

    shard: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    """First byte, counted from the start of the file."""
    end: int


@dataclass(frozen=True)
class Checkpoint:
    """All tensors of a model folder, by name, and the shards that hold them."""

    folder: Path
    entries: Mapping[str, Entry]
    shards: tuple[Path, ...]

    def floats(self, name: str) -> Entry:
        """Where a float tensor lies.

        Raises:
            CheckpointError: no such tensor, or its dtype is not a float of FLOATS (a quantized table, for one).
        """
        entry = self.entries.get(name)
        if entry is None:
            raise CheckpointError(f"{self.folder}: no tensor {name!r} in its safetensors files")
        if entry.dtype not in FLOATS:
            raise CheckpointError(
                f"{entry.shard}: tensor {name!r} is stored as {entry.dtype}, expected one of {', '.join(FLOATS)}; "
                "use the unquantized checkpoint"
            )
        return entry

    def tensor(self, name: str) -> Tensor:
        """A float tensor, memory-mapped and read-only by convention: its bytes are read when they are touched."""
        return view(self.floats(name), writable=False)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a model folder's safetensors files, through its index or its single file.

    Raises:
        CheckpointError: no safetensors, an index that names a missing file or tensor, a shard that is truncated, a
            tensor stored twice.
    """
    shards = _shards(folder)
    entries: dict[str, Entry] = {}
    for shard in shards:
        for name, entry in read_header(shard).items():
            if name in entries:
                raise CheckpointError(f"{folder}: tensor {name!r} is in {entries[name].shard.name} and {shard.name}")
            entries[name] = entry
    if (folder / INDEX).exists():
        _check_index(folder, entries)
    return Checkpoint(folder=folder, entries=entries, shards=shards)


def _shards(folder: Path) -> tuple[Path, ...]:
    if (folder / INDEX).exists():
        shards = tuple(folder / name for name in sorted(set(_weight_map(folder).values())))
        if absent := [shard.name for shard in shards if not shard.exists()]:
            raise CheckpointError(f"{folder / INDEX}: names files that are not there: {', '.join(absent)}")
        return shards
    if (folder / SINGLE).exists():
        return (folder / SINGLE,)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected a Hugging Face model folder")
    if any(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder}: holds pickled weights only, which can run code and are not read; convert them once with "
            "transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise CheckpointError(f"{folder}: neither {SINGLE} nor {INDEX} is there")


def _weight_map(folder: Path) -> dict[str, str]:
    try:
        return dict(json.loads((folder / INDEX).read_text())["weight_map"])
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder / INDEX}: not a safetensors index ({error!r})") from None


def _check_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    for name, shard in _weight_map(folder).items():
        if name not in entries or entries[name].shard.name != shard:
            raise CheckpointError(f"{folder / INDEX}: says that {name!r} is in {shard}, but it is not there")


def read_header(shard: Path) -> dict[str, Entry]:
    """The tensors of one file; `CheckpointError` when the file is shorter or longer than its header says."""
    size = shard.stat().st_size
    with shard.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_HEADER_LIMIT, size - 8):
            raise CheckpointError(f"{shard}: not a safetensors file, or truncated in its header")
        text = file.read(length)
    try:
        entries = {
            name: Entry(shard, item["dtype"], tuple(item["shape"]), *(8 + length + at for at in item["data_offsets"]))
            for name, item in json.loads(text).items()
            if name != "__metadata__"
        }
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{shard}: its safetensors header cannot be read ({error!r})") from None
    expected = max((entry.end for entry in entries.values()), default=8 + length)
    if size != expected:
        raise CheckpointError(f"{shard}: {size} bytes where its header needs {expected}; fetch the file again")
    return entries


def write_shard(
    target: Path, *, kept: Mapping[str, Entry], fresh: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, Entry]:
    """Write a shard of tensors that are copied byte for byte and of tensors that are to be filled.

    All of its disk space is taken at once, so that a disk that is too full is an error here and now.

    Args:
        target: the file to write; must not exist.
        kept: what is copied, from where, by name.
        fresh: dtype and shape of what is to be filled, by name.

    Returns:
        Where each fresh tensor lies.
    """
    parts = {name: (entry.dtype, entry.shape, entry.end - entry.begin) for name, entry in kept.items()}
    parts |= {name: (dtype, shape, prod(shape) * FLOATS[dtype].itemsize) for name, (dtype, shape) in fresh.items()}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    # The widest numbers come first, as safetensors itself writes, so that all begin aligned.
    for name in sorted(parts, key=lambda name: (-parts[name][2] // max(prod(parts[name][1]), 1), name)):
        dtype, shape, length = parts[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + length]}
        at += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("xb") as writer:
        writer.write(len(text).to_bytes(8, "little") + text)
        writer.flush()
        _take_space(writer.fileno(), 8 + len(text) + at)
        written = read_header(target)
        for name, entry in kept.items():
            with entry.shard.open("rb") as reader:
                _copy_range(reader.fileno(), writer.fileno(), entry.begin, written[name].begin, parts[name][2])
    return {name: written[name] for name in fresh}


def _take_space(file: int, size: int) -> None:
    """Make a file so long, on the disk and not only in name."""
    if size and hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file, 0, size)
    os.truncate(file, size)


def _copy_range(source: int, target: int, begin: int, to: int, length: int) -> None:
    """Copy bytes inside the kernel; file systems that can, share the blocks."""
    while length:
        try:
            done = os.copy_file_range(source, target, length, begin, to)
        except (AttributeError, OSError):  # not on Linux, or between file systems that cannot
            done = os.pwrite(target, os.pread(source, min(length, _CHUNK), begin), to)
        if not done:
            raise CheckpointError("a shard became shorter while it was copied")
        begin, to, length = begin + done, to + done, length - done


def view(entry: Entry, *, writable: bool) -> Tensor:
    """Map a tensor. Read-only files are mapped privately: a stray write would change memory, never the file."""
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY
    with entry.shard.open("r+b" if writable else "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=access)
    dtype, count = FLOATS[entry.dtype], prod(entry.shape)
    if count == 0:
        return torch.empty(entry.shape, dtype=dtype)
    if entry.begin % dtype.itemsize:
        where = f"a tensor begins at byte {entry.begin}, which is not aligned for {entry.dtype}"
        raise CheckpointError(f"{entry.shard}: {where}")
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=entry.begin).view(entry.shape)
