"""Fixtures for tests of exports: a model of each family, and a call of `export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lep.config.export import ExportSettings
from lep.gguf.export import ExportResult, export

from .families import make_family


@pytest.fixture(scope="session")
def family(tokenizers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`family(name)`: a model folder of one of FAMILIES, with 500 tokens and 512 rows."""
    root, folders = tmp_path_factory.mktemp("families"), {}

    def make(name: str) -> Path:
        if name not in folders:
            folders[name] = make_family(name, root / name, tokenizers["byte_level"], rows=512)
        return folders[name]

    return make


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., ExportResult]:
    """`exported(model, quantization=…)`: the result of `export` into a new folder."""

    def run(model: Path, **settings: Any) -> ExportResult:
        return export(ExportSettings(model=model, out=tmp_path / "out", **settings))

    return run
