"""Models for the benchmark: random, with a context for every prompt of the tiny data sets, and short answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

DATA = Path(__file__).parent / "darumeru/data"
EOS_INTERVAL = 13
"""Every 13th token ends an answer, so that no test waits for a thousand random tokens."""


@pytest.fixture(scope="session")
def tiny_data() -> Path:
    """A few rows of each data set of Darumeru."""
    return DATA


@pytest.fixture(scope="session")
def make_random_model(make_model: Callable[..., Path], tokenizers: dict[str, Path]) -> Callable[..., Path]:
    """`make_random_model(path, seed, template, context)`: a model with the tokenizer russian_byte_level.

    Its weights are large, so that it generates another text for every prompt.
    """

    def make(path: Path, *, seed: int = 0, template: bool = True, context: int = 4096) -> Path:
        make_model(path, tokenizers["russian_byte_level"], tied=False, seed=seed, layers=1)
        weights = {name: weight * 4 for name, weight in load_file(path / "model.safetensors").items()}
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        update_json(path / "config.json", max_position_embeddings=context)
        update_json(path / "generation_config.json", eos_token_id=list(range(0, 600, EOS_INTERVAL)), pad_token_id=0)
        if not template:
            (path / "chat_template.jinja").unlink()
        return path

    return make


def update_json(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="session")
def random_models(make_random_model: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two instruct models, and a base model without a chat template."""
    root = tmp_path_factory.mktemp("random_models")
    return {
        "first": make_random_model(root / "first", seed=1),
        "second": make_random_model(root / "second", seed=2),
        "base": make_random_model(root / "base", seed=3, template=False),
    }
