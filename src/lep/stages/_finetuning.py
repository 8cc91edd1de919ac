"""What `tune` and `calibrate` share: read a source of conversations, fine-tune a model, write it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lep.config import ConversationSource, FinetuningSettings
from lep.data.conversations import Conversation
from lep.data.copy_tasks import build_copy_tasks
from lep.data.records import read_records, read_source_records
from lep.data.sft_dataset import SFTDataset
from lep.distributed import gradient_accumulation_steps, run_on_main
from lep.errors import TokenizerError, UsageError
from lep.io.model_folder import ModelFolder, find_stored_tensors, open_model
from lep.io.model_writer import TRAINING_LOG_FILE
from lep.modeling.document_masking import supports_document_masking
from lep.modeling.loading import fork_rng_with_seed, load_model, load_tokenizer
from lep.modeling.saving import write_trained_model
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel
from lep.results.stages import FinetuningResult
from lep.training.arguments import FinetuningArguments
from lep.training.finetuning import finetune
from lep.training.resource_errors import explain_resource_errors


def unpack_arguments(settings: FinetuningSettings, *, beta: float = 0.1) -> FinetuningArguments:
    """Return what the training takes of the settings; `UsageError` if the processes cannot share a batch."""
    return FinetuningArguments(
        micro_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=gradient_accumulation_steps(
            batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size
        ),
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        dtype=settings.dtype,
        seed=settings.seed,
        fsdp=settings.parallel == "fsdp2",
        gradient_checkpointing=settings.gradient_checkpointing,
        packing=settings.packing,
        beta=beta,
    )


def finetune_and_write(
    settings: FinetuningSettings, arguments: FinetuningArguments, dataset: SFTDataset, *, out: Path
) -> FinetuningResult:
    """Fine-tune a model and write it, adapters merged; resume from the last checkpoint in `out`.

    Args:
        settings: The model and what is trained of it.
        arguments: How it is trained.
        dataset: The samples.
        out: An existing folder.

    Returns:
        What every fine-tuning reports.

    Raises:
        LepError: The loss or the gradient is not finite, or memory is used up.
        ArtifactError: The disk is full.
        CheckpointError: A weight that would be trained is not stored as such.
        UsageError: `packing` with a model whose attention does not stay inside a conversation.
        TokenizerError: There is no token to pad with.
    """
    source, tokenizer, checkpoints = open_model(settings.model), load_tokenizer(settings.model), out / "checkpoints"
    to_lower = f"micro_batch_size ({settings.micro_batch_size}) or max_length ({settings.max_length})"
    with fork_rng_with_seed(settings.seed), explain_resource_errors(checkpoints, settings_to_lower=to_lower):
        causal_lm = load_model(settings.model, dtype=settings.dtype)
        _check_model(causal_lm, tokenizer, settings)
        model = TrainableModel.with_whole_embeddings(
            causal_lm, settings.trainable_embeddings, unpack_trainable_layers(settings)
        )
        find_stored_tensors(source, model.weight_updates())
        output = finetune(model, tokenizer, dataset, arguments, folder=checkpoints, log_path=out / TRAINING_LOG_FILE)
    run_on_main(partial(_write_model, model, source, out, work_folders=(checkpoints, dataset.folder)))
    return FinetuningResult(
        examples=dataset.examples,
        trained_tokens=dataset.tokens,
        losses=output.losses,
        tokens_per_second=output.tokens_per_second,
        epochs=dataset.epochs,
        sources=dataset.sources,
        warnings=dataset.warnings,
    )


def unpack_trainable_layers(settings: FinetuningSettings) -> TrainableLayers:
    """Return which layers the settings train, and how."""
    return TrainableLayers(settings.trainable_layers, settings.adapter, settings.lora_rank, settings.lora_alpha)


def build_copy_conversations(settings: FinetuningSettings, tokenizer: PreTrainedTokenizerBase) -> list[Conversation]:
    """Build the copy tasks that the settings ask for, if any."""
    if not settings.copy_tasks:
        return []
    return build_copy_tasks(
        settings.copy_tasks.corpus,
        count=settings.copy_tasks.count,
        tokenizer=tokenizer,
        max_length=settings.max_length,
        seed=settings.seed,
    )


def read_conversation_source(source: Path | ConversationSource) -> Iterator[Any]:
    """Read the records of a path or of a source."""
    if isinstance(source, Path):
        return read_records(source)
    return read_source_records(
        files=source.files, dataset=source.dataset, name=source.name, split=source.split, revision=source.revision
    )


def _check_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: FinetuningSettings) -> None:
    if tokenizer.pad_token is None and tokenizer.eos_token is None:
        raise TokenizerError(f"{settings.model}: its tokenizer has neither a pad_token nor an eos_token to pad with")
    if settings.packing and not supports_document_masking(model, batch_size=min(2, settings.micro_batch_size)):
        raise UsageError("packing: this model's attention does not stay inside a conversation; give packing=false")


def _write_model(model: TrainableModel, source: ModelFolder, out: Path, *, work_folders: tuple[Path, ...]) -> None:
    write_trained_model(model, source, out)
    for folder in work_folders:
        shutil.rmtree(folder)
