"""Fine-tune a model on conversations or preferences: model + instruction data → tuned model."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

from lep.config import TuneSettings
from lep.data.conversations import partition_skipped, read_conversations
from lep.data.preferences import read_labeled_answers, read_preferences
from lep.data.sft_dataset import SampleSchedule, SFTDataset, build_preference_dataset, build_sft_dataset
from lep.distributed import run_on_main
from lep.modeling.loading import load_tokenizer
from lep.results.stages import TuningResult
from lep.stages._finetuning import (
    build_copy_conversations,
    finetune_and_write,
    read_conversation_source,
    unpack_arguments,
)

_READERS = {"sft": read_conversations, "dpo": read_preferences, "kto": read_labeled_answers}


def run(settings: TuneSettings, out: Path) -> TuningResult:
    """Fine-tune a model and write its folder; checkpoints are in `out/checkpoints` until the end.

    Args:
        settings: The model, the data, and how to train.
        out: An existing folder; a training that was interrupted there is resumed.

    Returns:
        Samples, losses and speed, and the rows that were left out.
    """
    arguments = unpack_arguments(settings, beta=settings.beta)
    dataset, skipped = run_on_main(partial(_build_dataset, settings, out / "samples"))
    result = finetune_and_write(settings, arguments, dataset, out=out)
    return TuningResult(**vars(result), skipped=skipped)


def _build_dataset(settings: TuneSettings, folder: Path) -> tuple[SFTDataset, dict[str, dict[str, int]]]:
    """The samples, and how many rows are left out, by source and reason."""
    tokenizer = load_tokenizer(settings.model)
    rows, skipped = _read_sources(settings)
    schedule = SampleSchedule(batch_size=settings.batch_size, epochs=settings.epochs, seed=settings.seed)
    if settings.method != "sft":
        dataset = build_preference_dataset(
            rows, tokenizer, max_length=settings.max_length, schedule=schedule, folder=folder
        )
        return dataset, skipped
    dataset = build_sft_dataset(
        [*rows, *build_copy_conversations(settings, tokenizer)],
        tokenizer,
        model=settings.model,
        trainable_embeddings=settings.trainable_embeddings,
        max_length=settings.max_length,
        packing=settings.packing,
        schedule=schedule,
        heldout_items=settings.heldout_items,
        folder=folder,
    )
    return dataset, skipped


def _read_sources(settings: TuneSettings) -> tuple[list[Any], dict[str, dict[str, int]]]:
    sources = settings.data if isinstance(settings.data, dict) else {settings.data.name: settings.data}
    rows: list[Any] = []
    skipped: dict[str, dict[str, int]] = {}
    for name, source in sources.items():
        min_scores = None if isinstance(source, Path) else source.min_scores
        limits = {"min_scores": min_scores} if min_scores else {}
        read = _READERS[settings.method](read_conversation_source(source), source=name, **limits)
        valid, invalid = partition_skipped(read, source=name)
        rows += valid
        skipped[name] = dict(Counter(row.reason for row in invalid))
    return rows, skipped
