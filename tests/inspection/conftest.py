"""A healthy model folder, and helpers that break one file of it."""

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
    """A tied Llama with 500 rows whose files agree; its answers end with id 2."""
    folder = make_model(tmp_path_factory.mktemp("healthy") / "model", tokenizers["byte_level"])
    edit(folder / "generation_config.json", eos_token_id=[0, 2])
    edit(folder / "config.json", torch_dtype="float32", rope_theta=10000.0)
    return folder


@pytest.fixture
def model(healthy: Path, tmp_path: Path) -> Path:
    """A copy of the healthy model, to break."""
    return Path(shutil.copytree(healthy, tmp_path / "model"))


@pytest.fixture(scope="session")
def change() -> Callable[..., None]:
    """`change(file, key=value, …)`: set keys of a JSON file; None removes a key."""
    return edit


@pytest.fixture(scope="session")
def change_rows() -> Callable[..., None]:
    """`change_rows(folder, change)`: replace `embed`, or the named matrix, by `change(matrix)`."""
    return _change_rows


def edit(file: Path, **values: object) -> None:
    content = (json.loads(file.read_text()) if file.exists() else {}) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def _change_rows(folder: Path, change: Callable[[Tensor], Tensor], *, name: str = EMBED) -> None:
    tensors = load_file(folder / "model.safetensors")
    matrix = change(tensors[name].clone()).contiguous()
    save_file(tensors | {name: matrix}, folder / "model.safetensors", metadata={"format": "pt"})
