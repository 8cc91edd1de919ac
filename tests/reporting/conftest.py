"""Folders of a made-up run: every room with a manifest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from .made_up import HOMES, NAMES, Write, collected, evaluated, pretrained, propagated, retokenized, tuned


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the manifest of one room: `write("run/tune", room="tune", numbers={...}, inputs={...})`."""

    def write(
        place: str,
        *,
        room: str,
        numbers: Mapping[str, Any],
        inputs: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        seconds: float = 12.3,
    ) -> Path:
        folder = tmp_path / place
        folder.mkdir(parents=True)
        up = "../" * len(Path(place).parts)
        manifest = {
            "room": room,
            "fingerprint": hashlib.sha256(place.encode()).hexdigest()[:16],
            "settings": {"seed": 0, **(settings or {})},
            "inputs": {k: {"path": up + v, "fingerprint": "0123456789abcdef"} for k, v in (inputs or {}).items()},
            "versions": {"lep": "0.1.0", "torch": "2.13.0"},
            "numbers": numbers,
            "seconds": seconds,
            "peak_memory_bytes": int(1.93e9),
            "finished": "2026-11-24T03:00:00+00:00",
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, ensure_ascii=False), encoding="utf-8")
        return folder

    return write


@pytest.fixture
def run(tmp_path: Path, write: Write) -> Path:
    """A whole run; returns the evaluation's folder."""
    (tmp_path / "inputs" / "published").mkdir(parents=True)
    corpus = {"corpus": "run/collect"}
    write("run/collect", room="collect", numbers=collected(), inputs={"sources.ru.files.0": "inputs/ru.jsonl"})
    write(
        "run/retokenize",
        room="retokenize",
        numbers=retokenized(),
        inputs={"base": HOMES["base"], **corpus},
        settings={"mixture": {"en": 1, "ru": 9}, "base": "inputs/published"},
    )
    initialized = {"copied": 49152, "composed": 3000, "mean_pieces": 2.43}
    tables = {"base": HOMES["base"], "tokenizer": "run/retokenize"}
    write("run/initialize", room="initialize", numbers=initialized, inputs=tables, seconds=2.04)
    learning = {"model": "run/initialize", **corpus}
    settings = {"mixture": {"ru": 9, "en": 1}, "lr": 0.002, "betas": [0.9, 0.95]}
    write("run/pretrain", room="pretrain", numbers=pretrained(), inputs=learning, settings=settings, seconds=1310)
    write("run/tune", room="tune", numbers=tuned(), inputs={"model": HOMES["base"]}, seconds=410)
    for method in NAMES[3:]:
        three = {"base": HOMES["base"], "adapted": "run/pretrain", "instruct": "run/tune"}
        place = f"run/propagate/{method}"
        write(place, room="propagate", numbers=propagated(method), inputs=three, settings={"method": method})
    models = {f"models.{name}": HOMES.get(name, f"run/propagate/{name}") for name in NAMES}
    return write("run/evaluate", room="evaluate", numbers=evaluated(), inputs={**models, **corpus}, seconds=333)
