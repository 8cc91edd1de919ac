"""Pre-train an initialized model on a corpus: initialized model + corpus → adapted model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from math import log
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import BenchmarkSettings, PretrainSettings
from lep.data.corpus import read_heldout_excerpts
from lep.data.packed_dataset import PackedDataset
from lep.data.packing import pack_corpus
from lep.distributed import gradient_accumulation_steps, run_on_main
from lep.errors import CheckpointError, DataError, UsageError
from lep.extras import require_extra
from lep.io.model_folder import ModelFolder, check_embedding_rows, find_stored_tensors, open_model
from lep.io.model_writer import COMPOSED_ROWS_FILE, TRAINING_LOG_FILE
from lep.modeling.document_masking import supports_document_masking
from lep.modeling.loading import fork_rng_with_seed, load_model, load_tokenizer
from lep.modeling.new_token_usage import count_rare_new_tokens
from lep.modeling.saving import write_trained_model
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel
from lep.progress import log_message
from lep.results.stages import LossPoint, NewTokenCounts, PretrainingResult, ValidationPoint, ValidationScore
from lep.training.arguments import PretrainingArguments
from lep.training.pretraining import TrainingOutput, train
from lep.training.resource_errors import explain_resource_errors
from lep.training.validation import ValidationSet, format_metrics

MAX_EXCESS_LOSS = 1.0
"""Nats per token above a uniform guess that no healthy model has; one with another model's token ids is confident, and
wrong."""


def run(settings: PretrainSettings, out: Path) -> PretrainingResult:
    """Pre-train a model and write its folder; checkpoints are in `out/checkpoints` until the end.

    Args:
        settings: The model, the corpus, and how to train.
        out: An existing folder; a training that was interrupted there is resumed.

    Returns:
        Held-out measurements, losses and speed.
    """
    if settings.benchmark:
        require_extra("eval", required_by="pretrain.benchmark")
    arguments = _unpack_arguments(settings)
    source, tokenizer = open_model(settings.model), load_tokenizer(settings.model)
    check_embedding_rows(source, vocabulary_size=len(tokenizer))
    _check_sequence_length(settings, source)
    new_ids = _read_composed_ids(source, tokenizer)
    split_ids = _select_split_ids(settings, source, new_ids)
    texts = read_heldout_excerpts(settings.corpus, settings.mixture, max_characters=settings.evaluation_characters)
    validation_set = ValidationSet(texts, tokenizer, new_ids, settings.mixture, settings.sequence_length)
    dataset = run_on_main(lambda: _pack_corpus(settings, tokenizer, folder=out / "samples"))
    to_lower = f"micro_batch_size ({settings.micro_batch_size}) or sequence_length ({settings.sequence_length})"
    checkpoints = out / "checkpoints"
    with fork_rng_with_seed(settings.seed), explain_resource_errors(checkpoints, settings_to_lower=to_lower):
        causal_lm = load_model(
            settings.model,
            dtype=settings.dtype,
            attn_implementation=settings.attn_implementation,
            use_liger_kernel=settings.use_liger_kernel,
        )
        _check_initial_loss(validation_set, causal_lm, source)
        dataset = replace(dataset, document_masking=_can_mask_documents(settings, causal_lm))
        model = TrainableModel.with_split_embeddings(
            causal_lm,
            TrainableLayers.from_setting(
                settings.trainable, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha
            ),
            new_ids=split_ids,
            train_old_rows=settings.trainable != "new_tokens",
        )
        find_stored_tensors(source, model.weight_updates())
        output = train(
            model,
            dataset,
            arguments,
            compute_metrics=partial(_measure_and_log, validation_set, settings.benchmark),
            folder=checkpoints,
            log_path=out / TRAINING_LOG_FILE,
        )
    return run_on_main(lambda: _write_result(out, model, output, source, dataset, validation_set))


def _unpack_arguments(settings: PretrainSettings) -> PretrainingArguments:
    return PretrainingArguments(
        steps=settings.steps,
        sequence_length=settings.sequence_length,
        micro_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps(
            batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size
        ),
        learning_rate=settings.learning_rate,
        old_token_learning_rate=settings.old_token_learning_rate or settings.learning_rate,
        layer_learning_rate=settings.layer_learning_rate or settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.decay_steps,
        weight_decay=settings.weight_decay,
        betas=settings.betas,
        epsilon=settings.epsilon,
        num_evaluations=settings.num_evaluations,
        dtype=settings.dtype,
        seed=settings.seed,
        fsdp=settings.parallel == "fsdp2",
        gradient_checkpointing=settings.gradient_checkpointing,
        torch_compile=settings.torch_compile,
        tensorboard=settings.tensorboard,
    )


def _pack_corpus(settings: PretrainSettings, tokenizer: PreTrainedTokenizerBase, *, folder: Path) -> PackedDataset:
    return pack_corpus(
        settings.corpus,
        tokenizer,
        mixture=settings.mixture,
        num_samples=settings.steps * settings.batch_size,
        sequence_length=settings.sequence_length,
        seed=settings.seed,
        folder=folder,
    )


def _check_sequence_length(settings: PretrainSettings, source: ModelFolder) -> None:
    if source.max_position_embeddings and settings.sequence_length > source.max_position_embeddings:
        raise UsageError(
            f"pretrain: sequence_length={settings.sequence_length:,} is more than the "
            f"{source.max_position_embeddings:,} positions of {source.path}, by its config.json; give a smaller "
            "sequence_length"
        )


def _check_initial_loss(validation_set: ValidationSet, model: PreTrainedModel, source: ModelFolder) -> None:
    """Raise `CheckpointError` when the model is far worse than a uniform guess in every language."""
    loss, uniform = validation_set.compute_initial_loss(model), log(len(source.embedding_matrix("embed")))
    if loss > uniform + MAX_EXCESS_LOSS:
        raise CheckpointError(
            f"{source.path}: its held-out loss is {loss:.1f} nats per token, that of a uniform guess {uniform:.1f}: "
            "the tokenizer does not match the model, or the weights are damaged; rerun `lep initialize`"
        )


def _select_split_ids(
    settings: PretrainSettings, source: ModelFolder, new_ids: Int[Tensor, " new"]
) -> Int[Tensor, " split"]:
    """Ids of the rows that `learning_rate` is for: the new tokens, or all where there is one rate for all."""
    if settings.trainable != "new_tokens" and settings.old_token_learning_rate is None:
        return torch.arange(len(source.embedding_matrix("embed")))
    if not len(new_ids):
        raise DataError(
            f"{source.path / COMPOSED_ROWS_FILE}: is missing or names no new rows; trainable=new_tokens and "
            "old_token_learning_rate need a model made by `lep initialize`"
        )
    return new_ids


def _read_composed_ids(source: ModelFolder, tokenizer: PreTrainedTokenizerBase) -> Int[Tensor, " new"]:
    """Ids of the new tokens, as far as they are known: those whose rows `initialize` composed."""
    file, end = source.path / COMPOSED_ROWS_FILE, 1 + max(tokenizer.get_vocab().values())
    try:
        ids = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
        valid = all(type(id_) is int and 0 <= id_ < end for id_ in ids) and len(set(ids)) == len(ids)
    except (ValueError, TypeError):
        ids, valid = [], False
    if not valid:
        raise DataError(
            f"{file}: is no list of different token ids below {end:,}; make the model again by `lep initialize`"
        )
    return torch.tensor(list(ids), dtype=torch.int64)


def _can_mask_documents(settings: PretrainSettings, model: PreTrainedModel) -> bool:
    """Whether attention is kept inside documents: where it is to be and the model can."""
    if not settings.document_masking:
        return False
    supported = supports_document_masking(model, batch_size=min(2, settings.micro_batch_size))
    if not supported:
        log_message(
            "the attention of this model does not stay inside documents: each document sees those packed before it"
        )
    return supported


def _measure_and_log(
    validation_set: ValidationSet, benchmark: BenchmarkSettings | None, model: PreTrainedModel
) -> dict[str, Any]:
    metrics = validation_set.compute_metrics(model)
    log_message(format_metrics(metrics))
    return metrics | _run_benchmark(model, validation_set.tokenizer, benchmark) if benchmark else metrics


def _run_benchmark(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, benchmark: BenchmarkSettings
) -> dict[str, Any]:
    """Averages of the benchmark with their intervals: of the selected tasks, and of their groups."""
    from lep.evaluation.darumeru.runner import score_model

    scores = score_model(model, tokenizer, benchmark, model_name="benchmark", is_base=True)
    assert scores.micro_average  # at least one task was run
    averages = {"all": scores.micro_average, **scores.groups}
    log_message("benchmark: " + ", ".join(f"{name} {average.score:.3f}" for name, average in averages.items()))
    return {
        "benchmark": {
            name: {"score": average.score, "low": average.interval[0], "high": average.interval[1]}
            for name, average in averages.items()
        }
    }


def _write_result(
    out: Path,
    model: TrainableModel,
    output: TrainingOutput,
    source: ModelFolder,
    dataset: PackedDataset,
    validation_set: ValidationSet,
) -> PretrainingResult:
    """Write the model, report, and remove what only the training needed."""
    write_trained_model(model, source, out)
    _warn_if_worse(output)
    never, rarely = (
        count_rare_new_tokens(validation_set.new_ids, dataset.token_counts, min_count=count) for count in (1, 100)
    )
    result = PretrainingResult(
        trained_tokens=dataset.tokens,
        tokens_per_second=output.tokens_per_second,
        best_step=output.best_step,
        curve=tuple(map(_to_validation_point, output.validation_history)),
        losses=tuple(LossPoint(**row) for row in output.losses),
        new_tokens=NewTokenCounts(len(validation_set.new_ids), never, rarely),
        epochs_by_language=dataset.epochs_by_language,
        document_masking=dataset.document_masking,
        mfu=output.mfu,
    )
    for name in ("checkpoints", "samples"):
        shutil.rmtree(out / name)
    return result


def _to_validation_point(row: Mapping[str, Any]) -> ValidationPoint:
    benchmark = {name: ValidationScore(**score) for name, score in row.get("benchmark", {}).items()}
    return ValidationPoint(**{**row, "benchmark": benchmark})


def _warn_if_worse(output: TrainingOutput) -> None:
    """Log a message when training did harm: the start is measured, and is never the result."""
    start, *later = (row["score"] for row in output.validation_history)
    if min(later) > start:
        log_message(
            f"training made the model worse: {min(later):.4f} bits per byte at best, {start:.4f} at the start; lower "
            "the learning rate"
        )
