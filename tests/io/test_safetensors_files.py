"""Shards are read lazily, rewritten byte for byte, and refused with the file's name when something is wrong."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from lep.errors import CheckpointError
from lep.io import safetensors_files
from lep.io.safetensors_files import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    mmap_tensor,
    open_checkpoint,
    read_header,
    write_shard,
)

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One shard: a matrix of each float dtype and an int8 one."""
    stored = {str(dtype).removeprefix("torch."): torch.randn(5, 3).to(dtype) for dtype in DTYPES}
    stored["int8"] = torch.arange(7, dtype=torch.int8)
    stored["empty"] = torch.empty(0, 3)
    save_file(stored, tmp_path / SAFE_WEIGHTS_NAME, metadata={"format": "pt"})
    return tmp_path


def test_tensors_are_those_that_safetensors_reads(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    for name, expected in load_file(folder / SAFE_WEIGHTS_NAME).items():
        assert checkpoint.entries[name].shape == tuple(expected.shape)
        if name != "int8":
            assert (
                torch.equal(checkpoint.get_tensor(name), expected)
                and checkpoint.get_tensor(name).dtype == expected.dtype
            )


def test_reading_is_lazy(tmp_path: Path) -> None:
    """Opening and mapping a matrix of 2 GiB on a sparse file takes no memory, and a stray write never reaches it."""
    text = json.dumps({"table": {"dtype": "F32", "shape": [1 << 20, 512], "data_offsets": [0, 1 << 31]}}).encode()
    text += b" " * (-len(text) % 8)
    with (tmp_path / SAFE_WEIGHTS_NAME).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + (1 << 31))
    resident = _resident_bytes()
    table = open_checkpoint(tmp_path).get_tensor("table")
    assert table[12345].sum() == 0
    assert _resident_bytes() - resident < 1 << 28
    table[0] = 1
    assert open_checkpoint(tmp_path).get_tensor("table")[0].sum() == 0
    del table


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.parametrize("keep", [4, 100, -1])
def test_a_truncated_shard_is_named(folder: Path, keep: int) -> None:
    shard = folder / SAFE_WEIGHTS_NAME
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=SAFE_WEIGHTS_NAME):
        open_checkpoint(folder)


def test_a_shard_that_is_too_long_is_named(folder: Path) -> None:
    with (folder / SAFE_WEIGHTS_NAME).open("ab") as file:
        file.write(b"x")
    with pytest.raises(CheckpointError, match=f"{SAFE_WEIGHTS_NAME}.*bytes where its header needs"):
        open_checkpoint(folder)


@pytest.mark.parametrize("header", [b"{nonsense", b"[]", b'{"a": 1}', b'{"a": {"dtype": "F32"}}', b"\xff\xfe{}"])
def test_an_invalid_header_is_an_error(tmp_path: Path, header: bytes) -> None:
    (tmp_path / SAFE_WEIGHTS_NAME).write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(CheckpointError, match=f"{SAFE_WEIGHTS_NAME}.*header"):
        open_checkpoint(tmp_path)


def sharded(folder: Path, weight_map: dict[str, str]) -> None:
    save_file({"a": torch.ones(2)}, folder / "one.safetensors")
    save_file({"b": torch.ones(3)}, folder / "two.safetensors")
    (folder / SAFE_WEIGHTS_INDEX_NAME).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_read_through_the_index(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    checkpoint = open_checkpoint(tmp_path)
    assert {name: entry.shard.name for name, entry in checkpoint.entries.items()} == {
        "a": "one.safetensors",
        "b": "two.safetensors",
    }


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors", "c": "three.safetensors"})
    with pytest.raises(CheckpointError, match=f"{SAFE_WEIGHTS_INDEX_NAME}.*three.safetensors"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("stale", [{"b": "one.safetensors"}, {"b": "two.safetensors", "c": "one.safetensors"}])
def test_a_stale_index_is_named(tmp_path: Path, stale: dict[str, str]) -> None:
    sharded(tmp_path, {"a": "one.safetensors"} | stale)
    with pytest.raises(CheckpointError, match=f"{SAFE_WEIGHTS_INDEX_NAME}.*not there"):
        open_checkpoint(tmp_path)


def test_an_invalid_index_is_named(tmp_path: Path) -> None:
    (tmp_path / SAFE_WEIGHTS_INDEX_NAME).write_text('{"weights": {}}')
    with pytest.raises(CheckpointError, match=SAFE_WEIGHTS_INDEX_NAME):
        open_checkpoint(tmp_path)


def test_a_tensor_stored_twice_is_an_error(tmp_path: Path) -> None:
    sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    save_file({"a": torch.zeros(2), "b": torch.ones(3)}, tmp_path / "two.safetensors")
    with pytest.raises(CheckpointError, match=r"'a' is in one.safetensors and two.safetensors"):
        open_checkpoint(tmp_path)


def test_pickles_are_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80")
    with pytest.raises(CheckpointError, match=f"{tmp_path.name}.*pickled.*save_pretrained"):
        open_checkpoint(tmp_path)


def test_an_empty_and_an_absent_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=SAFE_WEIGHTS_NAME):
        open_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        open_checkpoint(tmp_path / "nowhere")


def test_an_integer_matrix_and_an_unknown_name_are_errors(folder: Path) -> None:
    checkpoint = open_checkpoint(folder)
    with pytest.raises(CheckpointError, match=f"{SAFE_WEIGHTS_NAME}.*'int8' is stored as I8.*unquantized"):
        checkpoint.get_tensor("int8")
    with pytest.raises(CheckpointError, match="no tensor 'nothing'"):
        checkpoint.get_tensor("nothing")


@pytest.mark.parametrize("crosses_file_systems", [False, True])
def test_writing_keeps_all_other_bytes(folder: Path, crosses_file_systems: bool, monkeypatch) -> None:
    if crosses_file_systems:
        monkeypatch.setattr(safetensors_files, "_CHUNK_BYTES", 5)
        monkeypatch.setattr(os, "copy_file_range", _refuse)
    before, target = load_file(folder / SAFE_WEIGHTS_NAME), folder / "new.safetensors"
    rows = torch.randn(9, 3)
    kept = {
        name: entry
        for name, entry in read_header(folder / SAFE_WEIGHTS_NAME).items()
        if name not in ("float32", "float16")
    }
    infos = write_shard(target, copied=kept, allocated={"float32": ("F32", (9, 3)), "float16": ("F16", (2, 3))})
    mmap_tensor(infos["float32"], writable=True)[:] = rows
    mmap_tensor(infos["float16"], writable=True)[:] = rows[:2].half()
    after = load_file(target)
    assert list(after) and set(after) == set(before)
    for name, tensor in before.items():
        expected = {"float32": rows, "float16": rows[:2].half()}.get(name, tensor)
        assert after[name].dtype == expected.dtype and torch.equal(after[name], expected)
    with safe_open(target, "pt") as opened:
        assert opened.metadata() == {"format": "pt"}
    assert load_file(folder / SAFE_WEIGHTS_NAME).keys() == before.keys(), "the source is untouched"


def _refuse(*_: int) -> int:
    raise OSError(18, "Invalid cross-device link")


def test_a_written_shard_has_the_mode_of_any_new_file_and_its_space(folder: Path) -> None:
    write_shard(folder / "new.safetensors", copied={}, allocated={"table": ("F32", (1000, 1000))})
    (folder / "plain").touch()
    assert stat.S_IMODE((folder / "new.safetensors").stat().st_mode) == stat.S_IMODE((folder / "plain").stat().st_mode)
    assert (folder / "new.safetensors").stat().st_blocks * 512 >= 4_000_000, "not sparse: a full disk shows now"


def test_writing_never_overwrites(folder: Path) -> None:
    with pytest.raises(FileExistsError):
        write_shard(folder / SAFE_WEIGHTS_NAME, copied={}, allocated={})
    assert read_header(folder / SAFE_WEIGHTS_NAME)


def test_a_matrix_of_odd_size_before_a_wider_dtype_can_be_read(tmp_path: Path) -> None:
    """A file need not be sorted by the width of its dtypes: tensors after an odd size must be aligned."""
    text = json.dumps(
        {
            "table": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]},
            "wide": {"dtype": "F32", "shape": [2], "data_offsets": [12, 20]},
        }
    ).encode()
    text += b" " * (-len(text) % 8)
    body = torch.zeros(6, dtype=torch.bfloat16).view(torch.uint8).numpy().tobytes() + torch.ones(2).numpy().tobytes()
    (tmp_path / SAFE_WEIGHTS_NAME).write_bytes(len(text).to_bytes(8, "little") + text + body)
    kept = {"wide": read_header(tmp_path / SAFE_WEIGHTS_NAME)["wide"]}
    infos = write_shard(tmp_path / "new.safetensors", copied=kept, allocated={"table": ("BF16", (3, 3))})
    mmap_tensor(infos["table"], writable=True)[:] = 5
    assert torch.equal(load_file(tmp_path / "new.safetensors")["wide"], torch.ones(2))
    (tmp_path / "new.safetensors").replace(tmp_path / SAFE_WEIGHTS_NAME)
    assert torch.equal(open_checkpoint(tmp_path).get_tensor("wide"), torch.ones(2))
