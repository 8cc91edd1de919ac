"""Models of which only the published config.json is there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

CONFIGS = Path(__file__).parent / "configs"
SAME = {
    "llama-3-8b-instruct": "llama-3-8b",
    "llama-3.2-1b-instruct": "llama-3.2-1b",
    "qwen2.5-7b-instruct": "qwen2.5-7b",
    "qwen3-4b-instruct": "qwen3-4b-base",
}
"""Instruct models that have the configuration of their base, as far as it matters here."""

GB = 10**9


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the recipes want it: `models/` without weights, `texts/` of 45 and 5 GB that take no room."""
    root = tmp_path_factory.mktemp("workplace")
    names = {file.stem: file.stem for file in CONFIGS.glob("*.json")} | SAME
    for name, config in names.items():
        folder = root / "models" / name
        folder.mkdir(parents=True)
        shutil.copyfile(CONFIGS / f"{config}.json", folder / "config.json")
    for language, size in (("ru", 45), ("en", 5)):
        (root / "texts" / language).mkdir(parents=True)
        with (root / "texts" / language / "all.jsonl").open("wb") as file:
            file.truncate(size * GB)
    return root
