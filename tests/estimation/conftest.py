"""Model folders with only the published config.json."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parent / "configs"
CONFIG_NAMES = {
    "llama-3-8b-instruct": "llama-3-8b",
    "llama-3.2-1b-instruct": "llama-3.2-1b",
    "qwen2.5-7b-instruct": "qwen2.5-7b",
    "qwen3-4b-instruct": "qwen3-4b-base",
}
"""Instruct models with the configuration of their base, in what an estimate needs."""

GB = 10**9


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as recipes expect it: `models/` without weights, `texts/` with sparse files of 45 and 5 GB."""
    root = tmp_path_factory.mktemp("workplace")
    names = {file.stem: file.stem for file in CONFIGS.glob("*.json")} | CONFIG_NAMES
    for name, config in names.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        shutil.copyfile(CONFIGS / f"{config}.json", folder / "config.json")
    for language, size in (("ru", 45), ("en", 5)):
        (root / "texts" / language).mkdir(parents=True)
        with (root / "texts" / language / "all.jsonl").open("wb") as file:
            file.truncate(size * GB)
    return root
