"""Read safetensors shards lazily, and write them without loading them.

Reading maps a file into memory: no bytes are read until rows are accessed. Writing a shard copies the bytes of
unchanged tensors from file to file and allocates space for the others. Headers are parsed here because
`safetensors.safe_open` has no offsets, accepts duplicate names, refuses dtypes newer than itself even in layers that
are only copied, and gives no sizes in its errors.
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

FLOAT_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The dtypes that an embedding matrix may have."""

_DTYPE_BITS = {"BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8}
_DTYPE_BITS |= {f"{sign}{bits}": bits for sign in "IU" for bits in (8, 16, 32, 64)} | {"F16": 16, "BF16": 16}
_DTYPE_BITS |= {"F32": 32, "F64": 64}
"""Bits per value of the known dtypes; the size of other dtypes is not checked."""

_FETCH_AGAIN = "fetch the file again"
_MAX_HEADER_BYTES = 100_000_000
_CHUNK_BYTES = 1 << 24
SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class TensorInfo:
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
    entries: Mapping[str, TensorInfo]
    shards: tuple[Path, ...]

    def get_float_info(self, name: str) -> TensorInfo:
        """Return where a float tensor is stored.

        Args:
            name: of the tensor.

        Returns:
            Its file, dtype, shape and offsets.

        Raises:
            CheckpointError: there is no such tensor, or its dtype is not in `FLOAT_DTYPES`, as in a quantized model.
        """
        entry = self.entries.get(name)
        if entry is None:
            raise CheckpointError(f"{self.folder}: no tensor {name!r} in its safetensors files")
        if entry.dtype not in FLOAT_DTYPES:
            raise CheckpointError(
                f"{entry.shard}: tensor {name!r} is stored as {entry.dtype}, expected one of "
                f"{', '.join(FLOAT_DTYPES)}; use the unquantized checkpoint"
            )
        return entry

    def get_tensor(self, name: str) -> Tensor:
        """Return a float tensor, memory-mapped and read-only by convention: bytes are read on access."""
        return mmap_tensor(self.get_float_info(name), writable=False)


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read the headers of a model folder's safetensors files, through its index or its single file.

    Args:
        folder: a Hugging Face model folder.

    Returns:
        All tensors, without their data.

    Raises:
        CheckpointError: there are no safetensors, the index names a missing file or tensor, a shard is truncated, or a
            tensor is stored twice.
    """
    shards = _find_shards(folder)
    entries: dict[str, TensorInfo] = {}
    for shard in shards:
        for name, entry in read_header(shard).items():
            if name in entries:
                both = f"{entries[name].shard.name} and {shard.name}"
                raise CheckpointError(f"{folder}: tensor {name!r} is in {both}; {_FETCH_AGAIN}")
            entries[name] = entry
    if (folder / SAFE_WEIGHTS_INDEX_NAME).exists():
        _check_index(folder, entries)
    return Checkpoint(folder=folder, entries=entries, shards=shards)


def _find_shards(folder: Path) -> tuple[Path, ...]:
    index, single = folder / SAFE_WEIGHTS_INDEX_NAME, folder / SAFE_WEIGHTS_NAME
    if index.exists():
        if single.exists():
            raise CheckpointError(
                f"{folder}: holds both {SAFE_WEIGHTS_NAME} and {SAFE_WEIGHTS_INDEX_NAME}; remove the one that is not "
                "the model"
            )
        shards = tuple(folder / name for name in sorted(set(_read_weight_map(folder).values())))
        if missing := [shard.name for shard in shards if not shard.exists()]:
            raise CheckpointError(f"{index}: names files that are not there: {', '.join(missing)}; {_FETCH_AGAIN}")
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
    raise CheckpointError(
        f"{folder}: neither {SAFE_WEIGHTS_NAME} nor {SAFE_WEIGHTS_INDEX_NAME} is there; expected a Hugging Face model "
        "folder"
    )


def _read_weight_map(folder: Path) -> dict[str, str]:
    path = folder / SAFE_WEIGHTS_INDEX_NAME
    try:
        weight_map = json.loads(_read_bytes(path))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not a safetensors index ({_format_reason(error)}); {_FETCH_AGAIN}") from None
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: not a safetensors index: expected `weight_map` to map tensors to files")
    for name, shard in weight_map.items():
        if not isinstance(shard, str) or Path(shard).name != shard:
            raise CheckpointError(
                f"{path}: not a safetensors index: {name!r} is in {shard!r}; expected the name of a file in this folder"
            )
    return weight_map


def _check_index(folder: Path, entries: Mapping[str, TensorInfo]) -> None:
    for name, shard in _read_weight_map(folder).items():
        if name not in entries or entries[name].shard.name != shard:
            raise CheckpointError(
                f"{folder / SAFE_WEIGHTS_INDEX_NAME}: says that {name!r} is in {shard}, but it is not there; "
                f"{_FETCH_AGAIN}"
            )


def _read_bytes(path: Path, size: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(size)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); expected a file") from None


def read_header(shard: Path) -> dict[str, TensorInfo]:
    """Read the header of a safetensors file.

    Args:
        shard: the file.

    Returns:
        Its tensors by name.

    Raises:
        CheckpointError: the file is shorter or longer than its header says, or the header does not give each tensor,
            once, as many bytes as its dtype and shape need, without gaps.
    """
    start = 8 + int.from_bytes(_read_bytes(shard, 8), "little")
    size = shard.stat().st_size
    if not 10 <= start <= min(8 + _MAX_HEADER_BYTES, size):
        raise CheckpointError(f"{shard}: not a safetensors file, or truncated in its header; {_FETCH_AGAIN}")
    try:
        entries = _parse_header(shard, _read_bytes(shard, start)[8:], data_start=start)
        end = _check_contiguous(entries, data_start=start)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{shard}: its safetensors header cannot be read ({_format_reason(error)}); {_FETCH_AGAIN}"
        ) from None
    if size != end:
        raise CheckpointError(f"{shard}: {size} bytes where its header needs {end}; {_FETCH_AGAIN}")
    return entries


def _parse_header(shard: Path, header: bytes, *, data_start: int) -> dict[str, TensorInfo]:
    items = json.loads(header, object_pairs_hook=_build_unique_dict)
    if not isinstance(items.pop("__metadata__", {}), dict):
        raise ValueError("its metadata is not an object")
    return {name: _parse_tensor_info(shard, name, item, data_start=data_start) for name, item in items.items()}


def _format_reason(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else f"{type(error).__name__}: {error}"


def _build_unique_dict(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is there twice")
    return unique


def _parse_tensor_info(shard: Path, name: str, item: Any, *, data_start: int) -> TensorInfo:
    dtype, shape, offsets = (item.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _is_size_list(shape) or not _is_size_list(offsets) or len(offsets) != 2:
        raise ValueError(f"tensor {name!r} has dtype {dtype!r}, shape {shape!r}, offsets {offsets!r}")
    begin, end = offsets
    if dtype in _DTYPE_BITS and 8 * (end - begin) != prod(shape) * _DTYPE_BITS[dtype]:
        raise ValueError(f"tensor {name!r} of {dtype} and shape {shape} has {end - begin} bytes")
    return TensorInfo(shard, dtype, tuple(shape), data_start + begin, data_start + end)


def _is_size_list(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_contiguous(entries: Mapping[str, TensorInfo], *, data_start: int) -> int:
    """Return where the last tensor ends; `ValueError` unless each begins where the previous one ends."""
    offset = data_start
    for name, entry in sorted(entries.items(), key=lambda pair: (pair[1].begin, pair[1].end)):
        if entry.begin != offset or entry.end < offset:
            raise ValueError(f"tensor {name!r} begins at byte {entry.begin}, where {offset} was expected")
        offset = entry.end
    return offset


def write_shard(
    target: Path, *, copied: Mapping[str, TensorInfo], allocated: Mapping[str, tuple[str, tuple[int, ...]]]
) -> dict[str, TensorInfo]:
    """Write a shard of tensors that are copied byte for byte and of zero tensors to be filled later.

    All disk space is allocated at once, so that a full disk is an error before anything is computed.

    Args:
        target: the file to write; must not exist.
        copied: sources of the copied tensors, by name.
        allocated: dtype and shape of the tensors to be filled, by name.

    Returns:
        Where each allocated tensor is stored.
    """
    parts = {name: (entry.dtype, entry.shape, entry.end - entry.begin) for name, entry in copied.items()}
    parts |= {
        name: (dtype, shape, prod(shape) * FLOAT_DTYPES[dtype].itemsize) for name, (dtype, shape) in allocated.items()
    }
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    # The widest dtypes come first, as safetensors itself writes, so that all tensors are aligned.
    for name in sorted(parts, key=lambda name: (-parts[name][2] // max(prod(parts[name][1]), 1), name)):
        dtype, shape, length = parts[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + length]}
        offset += length
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with target.open("xb") as writer:
        writer.write(len(text).to_bytes(8, "little") + text)
        writer.flush()
        _allocate_space(writer.fileno(), 8 + len(text) + offset)
        written = read_header(target)
        for name, entry in copied.items():
            with entry.shard.open("rb") as reader:
                _copy_range(reader.fileno(), writer.fileno(), entry.begin, written[name].begin, parts[name][2])
    return {name: written[name] for name in allocated}


def _allocate_space(file_descriptor: int, size: int) -> None:
    """Set the length of a file and reserve its blocks on the disk."""
    if size and hasattr(os, "posix_fallocate"):  # not on macOS
        os.posix_fallocate(file_descriptor, 0, size)
    os.truncate(file_descriptor, size)


def _copy_range(source: int, target: int, source_offset: int, target_offset: int, length: int) -> None:
    """Copy bytes inside the kernel; file systems with reflinks share the blocks."""
    while length:
        try:
            count = os.copy_file_range(source, target, length, source_offset, target_offset)
        except (AttributeError, OSError):  # not on Linux, or between file systems that cannot
            count = os.pwrite(target, os.pread(source, min(length, _CHUNK_BYTES), source_offset), target_offset)
        if not count:
            raise CheckpointError("a shard was truncated while it was copied")
        source_offset, target_offset, length = source_offset + count, target_offset + count, length - count


def mmap_tensor(entry: TensorInfo, *, writable: bool) -> Tensor:
    """Map a tensor into memory. Unless writable, the mapping is private: a stray write never reaches the file.

    Args:
        entry: where the tensor is stored.
        writable: whether assigned values are written to the file.

    Returns:
        A tensor over the file's bytes.

    Raises:
        CheckpointError: the tensor is not aligned for its dtype.
    """
    access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_COPY
    with entry.shard.open("r+b" if writable else "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=access)
    dtype, count = FLOAT_DTYPES[entry.dtype], prod(entry.shape)
    if count == 0:
        return torch.empty(entry.shape, dtype=dtype)
    if entry.begin % dtype.itemsize:
        where = f"a tensor begins at byte {entry.begin}, which is not aligned for {entry.dtype}"
        raise CheckpointError(f"{entry.shard}: {where}")
    return torch.frombuffer(mapped, dtype=dtype, count=count, offset=entry.begin).view(entry.shape)


def have_same_bytes(a: TensorInfo, b: TensorInfo, *, max_bytes: int | None = None) -> bool:
    """Return whether two stored tensors are bitwise equal; reading stops at the first block that differs.

    Args:
        a: one tensor.
        b: the other.
        max_bytes: compare no more than this; `None`: all.

    Returns:
        Whether dtype, shape and all compared bytes are equal.
    """
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    end = a.end if max_bytes is None else min(a.begin + max_bytes, a.end)
    with a.shard.open("rb") as left, b.shard.open("rb") as right:
        left.seek(a.begin)
        right.seek(b.begin)
        sizes = (min(_CHUNK_BYTES, end - at) for at in range(a.begin, end, _CHUNK_BYTES))
        return all(left.read(size) == right.read(size) for size in sizes)
