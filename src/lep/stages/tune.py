"""Model + instruction data → tuned model: adapters and tables learn, and are merged."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from lep.config import Conversations, Tune
from lep.data.conversations import Skipped, read_conversations, sift
from lep.data.copy_tasks import wanted_copies
from lep.data.preferences import read_preferences, read_verdicts
from lep.data.records import origin_records
from lep.data.sft_dataset import Lessons, instruction_lessons, preference_lessons
from lep.distributed import by_main, micro_batches
from lep.modeling.loading import load_tokenizer
from lep.training.finetuning import tune

_READERS = {"sft": read_conversations, "dpo": read_preferences, "kto": read_verdicts}


def run(settings: Tune, out: Path) -> dict[str, Any]:
    """Write a whole model folder; checkpoints stand in `out/checkpoints` until the end."""
    micro_batches(batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size)
    lessons, skipped = by_main(partial(_lessons, settings, out / "samples"))
    return {**tune(settings, lessons, out=out, beta=settings.beta), "skipped": skipped}


def _lessons(settings: Tune, folder: Path) -> tuple[Lessons, dict[str, dict[str, int]]]:
    """What is learnt, and what is left out of each source and why."""
    tokenizer = load_tokenizer(settings.model)
    rows: list[Any] = []
    skipped: dict[str, dict[str, int]] = {}
    for name, source in _sources(settings).items():
        kept, left = sift(_read(settings, source, name), source=name)
        rows += kept
        skipped[name] = dict(Counter(item.reason for item in left))
    rows += wanted_copies(settings, tokenizer)
    prepare = instruction_lessons if settings.method == "sft" else preference_lessons
    return prepare(rows, tokenizer, settings=settings, folder=folder), skipped


def _sources(settings: Tune) -> dict[str, Path | Conversations]:
    return settings.data if isinstance(settings.data, dict) else {settings.data.name: settings.data}


def _read(settings: Tune, source: Path | Conversations, name: str) -> Iterator[Any | Skipped]:
    minimum = {"minimum": source.minimum} if isinstance(source, Conversations) and source.minimum else {}
    return _READERS[settings.method](origin_records(source), source=name, **minimum)
