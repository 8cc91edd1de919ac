"""Errors about memory and disks are recognised by type, by code, or by message, and say what to do."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from lep.errors import ArtifactError, LepError
from lep.training.resource_errors import explain_resource_errors, is_disk_full, is_out_of_memory

OUT_OF_MEMORY = [
    torch.OutOfMemoryError("no more"),
    MemoryError(),
    RuntimeError("CUDA out of memory. Tried to allocate"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
]
DISK_FULL = [
    OSError(errno.ENOSPC, "what the system calls it"),
    OSError(errno.EDQUOT, "what the system calls it"),
    RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    SafetensorError("I/O error: No space left on device (os error 28)"),
    OSError("Disk quota exceeded"),
]
OTHER = [RuntimeError("a bug"), OSError(errno.EACCES, "denied"), ValueError("out of range")]


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=repr)
def test_out_of_memory_names_the_settings_to_lower(error: Exception, tmp_path: Path) -> None:
    assert is_out_of_memory(error) and not is_disk_full(error)
    explain = explain_resource_errors(tmp_path, settings_to_lower="micro_batch_size (8)")
    with pytest.raises(LepError, match=r"out of memory: lower micro_batch_size \(8\), or set") as raised, explain:
        raise error
    assert raised.value.__cause__ is error and f"checkpoints stay in {tmp_path}" in str(raised.value)
    assert not isinstance(raised.value, ArtifactError)


@pytest.mark.parametrize("error", DISK_FULL, ids=repr)
def test_a_full_disk_names_the_folder(error: Exception, tmp_path: Path) -> None:
    assert is_disk_full(error) and not is_out_of_memory(error)
    explain = explain_resource_errors(tmp_path, settings_to_lower="batch_size (8)")
    with pytest.raises(ArtifactError, match="the disk is full; free some space") as raised, explain:
        raise error
    assert raised.value.__cause__ is error and str(tmp_path) in str(raised.value)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors_are_left_as_they_are(error: Exception, tmp_path: Path) -> None:
    assert not is_disk_full(error) and not is_out_of_memory(error)
    with pytest.raises(type(error)) as raised, explain_resource_errors(tmp_path, settings_to_lower=""):
        raise error
    assert raised.value is error
