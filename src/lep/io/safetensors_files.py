"""Safetensors shards, read lazily and written without being held.

Reading maps a file into memory: a tensor costs nothing until its rows are touched. Writing a shard copies the bytes of
the tensors that stay, file to file, and leaves room for the ones that change.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

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

_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_BITS |= {f"{sign}{bits}": bits for sign in "IU" for bits in (8, 16, 32, 64)} | {"F16": 16, "BF16": 16}
_BITS |= {"F32": 32, "F64": 64}
"""Of the dtypes known; another one is taken at its word."""

_AGAIN = "fetch the file again"
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
                shards_ = f"{entries[name].shard.name} and {shard.name}"
                raise CheckpointError(f"{folder}: tensor {name!r} is in {shards_}; {_AGAIN}")
            entries[name] = entry
    if (folder / INDEX).exists():
        _check_index(folder, entries)
    return Checkpoint(folder=folder, entries=entries, shards=shards)


def _shards(folder: Path) -> tuple[Path, ...]:
    index, single = folder / INDEX, folder / SINGLE
    if index.exists():
        if single.exists():
            raise CheckpointError(f"{folder}: holds both {SINGLE} and {INDEX}; remove the one that is not the model")
        shards = tuple(folder / name for name in sorted(set(_weight_map(folder).values())))
        if absent := [shard.name for shard in shards if not shard.exists()]:
            raise CheckpointError(f"{index}: names files that are not there: {', '.join(absent)}; {_AGAIN}")
        return shards
    if single.exists():
        return (single,)
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; expected a Hugging Face model folder")
    if any(folder.glob("pytorch_model*.bin")):
        raise CheckpointError(
            f"{folder}: holds pickled weights only, which can run code and are not read; convert them once with "
            "transformers: AutoModelForCausalLM.from_pretrained(folder).save_pretrained(new_folder)"
        )
    raise CheckpointError(f"{folder}: neither {SINGLE} nor {INDEX} is there; expected a Hugging Face model folder")


def _weight_map(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    try:
        found = json.loads(_read(path))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors index ({_reason(error)}); {_AGAIN}") from None
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{path}: not a safetensors index: expected `weight_map` to place tensors in files")
    for name, shard in found.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{path}: not a safetensors index: {name!r} is in {shard!r}; expected the name of a file beside it"
            )
    return found


def _check_index(folder: Path, entries: Mapping[str, Entry]) -> None:
    for name, shard in _weight_map(folder).items():
        if name not in entries or entries[name].shard.name != shard:
            raise CheckpointError(f"{folder / INDEX}: says that {name!r} is in {shard}, but it is not there; {_AGAIN}")


def _read(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a file") from None


def read_header(shard: Path) -> dict[str, Entry]:
    """The tensors of one file.

    Raises:
        CheckpointError: the file is shorter or longer than its header says, or the header does not give each tensor,
            once, as many bytes as its dtype and shape need, end to end.
    """
    start = 8 + int.from_bytes(_read(shard, 8), "little")
    size = shard.stat().st_size
    if not 10 <= start <= min(8 + _HEADER_LIMIT, size):
        raise CheckpointError(f"{shard}: not a safetensors file, or truncated in its header; {_AGAIN}")
    try:
        items = json.loads(_read(shard, start)[8:], object_pairs_hook=_once)
        if not isinstance(items.pop("__metadata__", {}), dict):
            raise ValueError("its metadata is no object")
        entries = {name: _entry(shard, name, item, start=start) for name, item in items.items()}
        end = _end(entries, start=start)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{shard}: its safetensors header cannot be read ({_reason(error)}); {_AGAIN}") from None
    if size != end:
        raise CheckpointError(f"{shard}: {size} bytes where its header needs {end}; {_AGAIN}")
    return entries


def _reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _entry(shard: Path, name: str, item: Any, *, start: int) -> Entry:
    dtype, shape, offsets = (item.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has dtype {dtype!r}, shape {shape!r}, offsets {offsets!r}")
    begin, end = offsets
    if dtype in _BITS and 8 * (end - begin) != prod(shape) * _BITS[dtype]:
        raise ValueError(f"tensor {name!r} of {dtype} and shape {shape} has {end - begin} bytes")
    return Entry(shard, dtype, tuple(shape), start + begin, start + end)


def _are_sizes(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _end(entries: Mapping[str, Entry], *, start: int) -> int:
    """Where the last tensor ends; `ValueError` unless each begins where the one before it ends."""
    at = start
    for name, entry in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if entry.begin != at or entry.end < at:
            raise ValueError(f"tensor {name!r} begins at byte {entry.begin}, where {at} was expected")
        at = entry.end
    return at


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


def same_bytes(a: Entry, b: Entry, *, first: int | None = None) -> bool:
    """Whether two tensors are the same, bit by bit; different ones are read as far as the first block that differs.

    Args:
        first: look at no more than so many bytes.
    """
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    end = a.end if first is None else min(a.begin + first, a.end)
    with a.shard.open("rb") as left, b.shard.open("rb") as right:
        left.seek(a.begin)
        right.seek(b.begin)
        sizes = (min(_CHUNK, end - at) for at in range(a.begin, end, _CHUNK))
        return all(left.read(size) == right.read(size) for size in sizes)
