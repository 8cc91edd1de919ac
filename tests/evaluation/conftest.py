"""Models that can be benchmarked: random, with room for every prompt of the tiny data sets, and soon at an end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

DATA = Path(__file__).parent / "darumeru/data"
ENDS = 13
"""Every so many tokens there is one that ends an answer: nobody waits for a thousand tokens of noise."""


@pytest.fixture(scope="session")
def tiny_data() -> Path:
    """A few rows of each data set of Darumeru."""
    return DATA


@pytest.fixture(scope="session")
def make_speaker(make_model: Callable[..., Path], tokenizers: dict[str, Path]) -> Callable[..., Path]:
    """`make_speaker(path, seed, template, context)`: a model with the tokenizer russian_byte_level.

    Its weights are large, so that it says something else to every prompt.
    """

    def make(path: Path, *, seed: int = 0, template: bool = True, context: int = 4096) -> Path:
        make_model(path, tokenizers["russian_byte_level"], tied=False, seed=seed, layers=1)
        weights = {name: weight * 4 for name, weight in load_file(path / "model.safetensors").items()}
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        change(path / "config.json", max_position_embeddings=context)
        ends = list(range(0, 600, ENDS))
        change(path / "generation_config.json", eos_token_id=ends, pad_token_id=0)
        if not template:
            (path / "chat_template.jinja").unlink()
        return path

    return make


def change(file: Path, **values: object) -> None:
    """Change a file of JSON."""
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture(scope="session")
def speakers(make_speaker: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two instruct models, and a base model without a chat template."""
    root = tmp_path_factory.mktemp("speakers")
    return {
        "first": make_speaker(root / "first", seed=1),
        "second": make_speaker(root / "second", seed=2),
        "base": make_speaker(root / "base", seed=3, template=False),
    }
