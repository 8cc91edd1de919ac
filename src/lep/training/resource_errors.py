"""Explain errors about full memory and full disks, which libraries report in many ways."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError

from lep.errors import ArtifactError, LepError

_DISK_FULL_CODES = (errno.ENOSPC, errno.EDQUOT)
_OUT_OF_MEMORY_TEXTS = ("out of memory", "allocate memory")
_DISK_FULL_TEXTS = ("no space left", "failed writing", "quota")
"""Messages of libraries (torch's allocator and file writer, safetensors) whose errors have no type or code for it."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the machine or of its accelerator is used up."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _mentions(error, _OUT_OF_MEMORY_TEXTS)


def is_disk_full(error: BaseException) -> bool:
    """Return whether an error says that a disk, or the user's quota of it, is used up."""
    return getattr(error, "errno", None) in _DISK_FULL_CODES or _mentions(error, _DISK_FULL_TEXTS)


@contextmanager
def explain_resource_errors(folder: Path, *, settings_to_lower: str) -> Iterator[None]:
    """Turn errors about memory and disks that are raised inside into ones that say what to do.

    Args:
        folder: Where checkpoints are.
        settings_to_lower: The settings that memory depends on, as `micro_batch_size (8)`.

    Raises:
        LepError: Memory is used up.
        ArtifactError: The disk is full.
    """
    try:
        yield
    except (RuntimeError, OSError, MemoryError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise LepError(
                f"out of memory: lower {settings_to_lower}, or set gradient_checkpointing; checkpoints stay in {folder}"
            ) from error
        if is_disk_full(error):
            raise ArtifactError(
                f"{folder}: the disk is full; free some space and run the same command again"
            ) from error
        raise


def _mentions(error: BaseException, texts: tuple[str, ...]) -> bool:
    message = str(error).lower()
    return any(text in message for text in texts)
