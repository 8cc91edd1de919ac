"""Folders of a made-up run: a manifest for every stage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from lep.io.artifact import SCHEMA_VERSION

from .made_up import HOMES, NAMES, Write, collected, evaluated, pretrained, propagated, retokenized, tuned


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the manifest of one stage: `write("run/tune", stage="tune", result={...}, inputs={...})`."""

    def write(
        place: str,
        *,
        stage: str,
        result: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        seconds: float = 12.3,
    ) -> Path:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        up = "../" * len(Path(place).parts)
        manifest = {
            "stage": stage,
            "fingerprint": hashlib.sha256(place.encode()).hexdigest()[:16],
            "settings": {"seed": 0, **(settings or {})},
            "inputs": {k: {"path": up + v, "fingerprint": "0123456789abcdef"} for k, v in (inputs or {}).items()},
            "versions": {"lep": "0.1.0", "torch": "2.13.0"},
            "result": result,
            "seconds": seconds,
            "peak_memory_bytes": int(1.93e9),
            "finished_at": "2026-11-24T03:00:00+00:00",
            "schema_version": SCHEMA_VERSION,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Path:
    """Write a complete run; return the folder of the evaluation."""
    (tmp_path / "inputs" / "published").mkdir(parents=True)
    corpus = {"corpus": "run/collect"}
    write("run/collect", stage="collect", result=collected(), inputs={"sources.ru.files.0": "inputs/ru.jsonl"})
    write(
        "run/retokenize",
        stage="retokenize",
        result=retokenized(),
        inputs={"base": HOMES["base"], **corpus},
        settings={"mixture": {"en": 1, "ru": 9}, "base": "inputs/published"},
    )
    initialized = {"copied_rows": 49152, "composed_rows": 3000, "mean_segmentation_length": 2.43}
    matrices = {"base": HOMES["base"], "tokenizer": "run/retokenize"}
    write("run/initialize", stage="initialize", result=initialized, inputs=matrices, seconds=2.04)
    learning = {"model": "run/initialize", **corpus}
    settings = {"mixture": {"ru": 9, "en": 1}, "learning_rate": 0.002, "betas": [0.9, 0.95]}
    write("run/pretrain", stage="pretrain", result=pretrained(), inputs=learning, settings=settings, seconds=1310)
    write("run/tune", stage="tune", result=tuned(), inputs={"model": HOMES["base"]}, seconds=410)
    for method in NAMES[3:]:
        three = {"base": HOMES["base"], "adapted": "run/pretrain", "instruct": "run/tune"}
        place = f"run/propagate/{method}"
        write(place, stage="propagate", result=propagated(method), inputs=three, settings={"method": method})
    models = {f"models.{name}": HOMES.get(name, f"run/propagate/{name}") for name in NAMES}
    return write("run/evaluate", stage="evaluate", result=evaluated(), inputs={**models, **corpus}, seconds=333)
