"""A healthy model folder, and how to break it: one file at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


@pytest.fixture(scope="session")
def healthy(tokenizers, make_model, tmp_path_factory) -> Path:
    """A tied Llama of 500 rows, whose files agree about everything; its answers end with id 2."""
    folder = make_model(tmp_path_factory.mktemp("healthy") / "model", tokenizers["byte_level"])
    edit(folder / "generation_config.json", eos_token_id=[0, 2])
    edit(folder / "config.json", torch_dtype="float32", rope_theta=10000.0)
    return folder


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return Path(shutil.copytree(healthy, tmp_path / "model"))


@pytest.fixture(scope="session")
def change() -> Callable[..., None]:
    """`change(file, key=value, …)`: keys of a JSON file; None takes one away."""
    return edit


@pytest.fixture(scope="session")
def change_rows() -> Callable[..., None]:
    """`change_rows(folder, of_table)`: the table that `of_table` makes of `embed`, or of the named one."""
    return _change_rows


def edit(file: Path, **values: object) -> None:
    found = json.loads(file.read_text()) if file.exists() else {}
    found |= values
    file.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def _change_rows(folder: Path, of_table: Callable[[Tensor], Tensor], *, name: str = EMBED) -> None:
    tensors = load_file(folder / "model.safetensors")
    table = of_table(tensors[name].clone()).contiguous()
    save_file(tensors | {name: table}, folder / "model.safetensors", metadata={"format": "pt"})
