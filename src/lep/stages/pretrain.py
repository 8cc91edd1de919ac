"""Initialized model + corpus → adapted model: only the tables learn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from lep.config import Pretrain
from lep.core.metrics import bits_per_byte
from lep.engine.likelihood import total_bits
from lep.engine.models import document_prefix, load_model, load_tokenizer, seeded
from lep.engine.packing import pack_corpus
from lep.engine.pretraining import Measure, train_tables
from lep.engine.tables import TrainableTables
from lep.errors import DataError, UsageError
from lep.io.checkpoint import COMPOSED_ROWS, copy_tokenizer, copy_with_tables, lay_out
from lep.io.corpus import corpus_languages, heldout_excerpt
from lep.io.model import open_model


def run(settings: Pretrain, out: Path) -> dict[str, Any]:
    """Write a whole model folder; checkpoints stand in `out/checkpoints` until the end."""
    if settings.batch_size % settings.micro_batch_size:
        raise UsageError(
            f"pretrain: micro_batch_size {settings.micro_batch_size} does not divide batch_size {settings.batch_size}"
        )
    steps = settings.tokens // (settings.block * settings.batch_size)
    if not steps:
        raise DataError(f"pretrain: {settings.tokens} tokens are less than one step of block × batch_size tokens")
    tokenizer = load_tokenizer(settings.model)
    samples = pack_corpus(
        settings.corpus,
        tokenizer,
        mixture=settings.mixture,
        samples=steps * settings.batch_size,
        block=settings.block,
        prefix=document_prefix(tokenizer),
        seed=settings.seed,
    )
    with seeded(settings.seed):
        model = TrainableTables(load_model(settings.model, dtype=settings.dtype), new_rows=_new_rows(settings))
        measure = _heldout_measure(settings, tokenizer)
        trained = train_tables(model, samples, settings=settings, measure=measure, folder=out / "checkpoints")
    source = open_model(settings.model)
    for name, table in copy_with_tables(lay_out(source, rows=len(source.rows("embed"))), out).items():
        table[:] = trained.tables[name]
    copy_tokenizer(settings.model, out)
    shutil.rmtree(out / "checkpoints")
    return {
        "trained_tokens": samples.tokens,
        "tokens_per_second": trained.tokens_per_second,
        "curve": trained.curve,
        "losses": trained.losses,
    }


def _new_rows(settings: Pretrain) -> torch.Tensor:
    """Rows with the rate `lr`: those that `initialize` composed; all of them when there is one rate for all."""
    if settings.lr_old_rows is None:
        return torch.arange(len(open_model(settings.model).rows("embed")))
    file = settings.model / COMPOSED_ROWS
    if not file.exists():
        raise DataError(f"{file}: is not there; lr_old_rows needs a model made by `lep initialize`")
    return torch.tensor(json.loads(file.read_text()), dtype=torch.int64)


def _heldout_measure(settings: Pretrain, tokenizer: PreTrainedTokenizerBase) -> Measure:
    texts = {
        language: heldout_excerpt(settings.corpus, language, characters=settings.evaluation_characters)
        for language in corpus_languages(settings.corpus)
    }
    ids = {
        language: [tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents]
        for language, documents in texts.items()
    }
    prefix = document_prefix(tokenizer)

    def measure(model: nn.Module) -> Mapping[str, float]:
        return {
            language: bits_per_byte(
                documents, bits=total_bits(model, ids[language], prefix=prefix, block=settings.block)
            )
            for language, documents in texts.items()
        }

    return measure
