"""What the tests of exports share: a model of each family, and a call of `export`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lep.config.export import Export
from lep.gguf.export import Exported, export

from .families import make_family


@pytest.fixture(scope="session")
def family(tokenizers: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`family(name)`: a model folder of one of FAMILIES, with 500 tokens and 512 rows."""
    root, made = tmp_path_factory.mktemp("families"), {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = make_family(name, root / name, tokenizers["byte_level"], rows=512)
        return made[name]

    return make


@pytest.fixture
def exported(tmp_path: Path) -> Callable[..., Exported]:
    """`exported(model, quantization=…)`: what `export` writes into a fresh folder."""

    def run(model: Path, **settings: Any) -> Exported:
        return export(Export(model=model, out=tmp_path / "out", **settings))

    return run
