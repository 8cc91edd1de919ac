"""Initialized model + corpus → adapted model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from lep.config import Pretrain
from lep.core.metrics import bits_per_byte
from lep.engine.layers import learnt_weights, let_layers_learn
from lep.engine.likelihood import total_bits
from lep.engine.models import document_prefix, load_model, load_tokenizer, seeded
from lep.engine.packing import pack_corpus
from lep.engine.pretraining import Measure, Training, train
from lep.engine.tables import TrainableTables
from lep.errors import DataError, UsageError
from lep.io.checkpoint import COMPOSED_ROWS, TRAINING_LOG, copy_tokenizer, copy_with_tables, lay_out
from lep.io.corpus import corpus_languages, heldout_excerpt
from lep.io.model import ModelFolder, check_rows, open_model, stored_names
from lep.io.tensors import view
from lep.progress import note


def run(settings: Pretrain, out: Path) -> dict[str, Any]:
    """Write a whole model folder; checkpoints stand in `out/checkpoints` until the end."""
    if settings.batch_size % settings.micro_batch_size:
        raise UsageError(
            f"pretrain: micro_batch_size {settings.micro_batch_size} does not divide batch_size {settings.batch_size}"
        )
    steps = settings.tokens // (settings.block * settings.batch_size)
    if not steps:
        raise DataError(f"pretrain: {settings.tokens} tokens are less than one step of block × batch_size tokens")
    source, tokenizer = open_model(settings.model), load_tokenizer(settings.model)
    check_rows(source, tokens=len(tokenizer))
    samples = pack_corpus(
        settings.corpus,
        tokenizer,
        mixture=settings.mixture,
        samples=steps * settings.batch_size,
        block=settings.block,
        seed=settings.seed,
        folder=out / "samples",
        inside_documents=False,
    )
    with seeded(settings.seed):
        model = _trainable(settings, source)
        measure = _heldout_measure(settings, tokenizer)
        trained = train(
            model, samples, settings=settings, measure=measure, folder=out / "checkpoints", log=out / TRAINING_LOG
        )
    _write(trained, source, out)
    return {
        "trained_tokens": samples.tokens,
        "tokens_per_second": trained.tokens_per_second,
        "utilisation": trained.utilisation,
        "best_step": trained.best_step,
        "curve": trained.curve,
        "losses": trained.losses,
    }


def _trainable(settings: Pretrain, source: ModelFolder) -> TrainableTables:
    """The model, with what `learn` names trainable; all of it must have a place in the result."""
    loaded = load_model(settings.model, dtype=settings.dtype, attention=settings.attention)
    model = TrainableTables(loaded, new_rows=_new_rows(settings, source), old_rows_learn=settings.learn != "new_rows")
    let_layers_learn(loaded, settings.learn, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha)
    stored_names(source, learnt_weights(loaded))
    if settings.gradient_checkpointing:
        loaded.activation_checkpointing_enable({"use_reentrant": False})
    if settings.compile:
        loaded.base_model.compile()
    return model


def _new_rows(settings: Pretrain, source: ModelFolder) -> torch.Tensor:
    """Rows with the rate `lr`: those that `initialize` composed; all of them when there is one rate for all."""
    if settings.learn != "new_rows" and settings.lr_old_rows is None:
        return torch.arange(len(source.rows("embed")))
    file = settings.model / COMPOSED_ROWS
    if not file.exists():
        raise DataError(f"{file}: is not there; learn=new_rows and lr_old_rows need a model made by `lep initialize`")
    return torch.tensor(json.loads(file.read_text()), dtype=torch.int64)


def _heldout_measure(settings: Pretrain, tokenizer: PreTrainedTokenizerBase) -> Measure:
    """Bits per byte of held-out text by language; the score is their mean, each language weighing as in the mixture."""
    texts = {
        language: heldout_excerpt(settings.corpus, language, characters=settings.evaluation_characters)
        for language in corpus_languages(settings.corpus)
    }
    ids = {
        language: [tokenizer(text, add_special_tokens=False)["input_ids"] for text in documents]
        for language, documents in texts.items()
    }
    prefix, total = document_prefix(tokenizer), sum(settings.mixture.values())

    def measure(model: TrainableTables) -> Mapping[str, Any]:
        found = {
            language: bits_per_byte(
                documents, bits=total_bits(model, ids[language], prefix=prefix, block=settings.block)
            )
            for language, documents in texts.items()
        }
        note("held-out bits per byte: " + ", ".join(f"{language} {value:.4f}" for language, value in found.items()))
        score = sum(share * found[language] for language, share in settings.mixture.items()) / total
        return {"score": score, "bits_per_byte": found}

    return measure


def _write(trained: Training, source: ModelFolder, out: Path) -> None:
    """The model as it was, but for what learnt."""
    names = stored_names(source, trained.layers)
    entries = source.checkpoint.entries
    values = {
        stored: lambda name=name, stored=stored: trained.layers[name](view(entries[stored], writable=False))
        for name, stored in names.items()
    }
    layout = lay_out(source, rows=len(source.rows("embed")), changed=values)
    for name, table in copy_with_tables(layout, out, values=values).items():
        table[:] = trained.tables[name]
    copy_tokenizer(source.path, out)
    shutil.rmtree(out / "checkpoints")
    shutil.rmtree(out / "samples")
