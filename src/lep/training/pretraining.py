"""Continued pre-training by transformers' Trainer.

Source: arXiv 2412.21140, section on continued pre-training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
    get_wsd_schedule,
)
from transformers.integrations.integration_utils import TensorBoardCallback

from lep.data.packed_dataset import PackedDataset
from lep.distributed import broadcast_from_main, get_world_size
from lep.extras import require_extra
from lep.modeling.device_specs import get_peak_flops
from lep.modeling.loading import get_device
from lep.modeling.trainable_model import TrainableModel
from lep.progress import track_progress
from lep.training.arguments import PretrainingArguments
from lep.training.callbacks import TrainingMonitor, ValidationMetrics
from lep.training.checkpoints import (
    TrainedWeightsMixin,
    checkpoint_folder,
    find_last_checkpoint,
    load_trained_weights,
)
from lep.training.fsdp_trainer import FSDPTrainerMixin

MetricsFunction = Callable[[PreTrainedModel], ValidationMetrics]


@dataclass(frozen=True)
class TrainingOutput:
    """How a training went; its result is in the model."""

    validation_history: list[dict[str, Any]]
    """Metrics with their `step` and `tokens`: before the first step, on the way and at the end."""
    losses: list[dict[str, Any]]
    """`step` and `loss`, the mean over the tokens of a step in nats."""
    best_step: int
    """The validated step with the lowest score, whose weights the model has."""
    tokens_per_second: float
    mfu: float | None
    """Model FLOPs utilization; `None` where the peak of the device is not known."""


class PretrainingTrainer(TrainedWeightsMixin, Trainer):
    """Trainer whose checkpoints hold what is trained."""


class FSDPPretrainingTrainer(TrainedWeightsMixin, FSDPTrainerMixin, Trainer):
    """The same of a sharded model."""


def train(
    model: TrainableModel,
    dataset: PackedDataset,
    arguments: PretrainingArguments,
    *,
    compute_metrics: MetricsFunction,
    folder: Path,
    log_path: Path,
) -> TrainingOutput:
    """Train a model on all samples once, in order; resume from the last checkpoint in `folder`.

    Args:
        model: Trained in place; it has the weights of the best validated step afterwards, gathered in the main process.
        dataset: As many samples as the steps need.
        arguments: Learning rates, batch and schedule.
        compute_metrics: Called before the first step and at each validation, the last time at the end; its result has a
            `score`.
        folder: For checkpoints.
        log_path: For a line of JSON for each step and each validation.

    Returns:
        How the training went.

    Raises:
        LepError: The loss or the gradient is not finite.
    """
    if arguments.gradient_checkpointing:
        model.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    if arguments.torch_compile:
        for layer in model.decoder_layers:  # alike, so that one compilation serves all
            layer.compile()
    monitor = _build_monitor(model, dataset, arguments, compute_metrics=compute_metrics, log_path=log_path)
    trainer = _build_trainer(model, dataset, arguments, folder=folder, monitor=monitor)
    checkpoint, done = find_last_checkpoint(folder)
    completed = dataset.tokens * done / arguments.steps
    with track_progress("training", total=dataset.tokens, unit="tokens", completed=completed) as advance:
        monitor.advance = advance
        trainer.train(resume_from_checkpoint=checkpoint)
    best_step = trainer.state.best_global_step or arguments.steps
    if best_step != arguments.steps:
        load_trained_weights(model, checkpoint_folder(folder, best_step))
    model.gather()
    history = trainer.state.log_history
    return TrainingOutput(
        validation_history=[row["validation"] for row in history if "validation" in row],  # pyright: ignore[reportArgumentType]
        losses=[{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row],
        best_step=best_step,
        tokens_per_second=monitor.tokens_per_second,
        mfu=monitor.mfu,
    )


def _build_trainer(
    model: TrainableModel,
    dataset: PackedDataset,
    arguments: PretrainingArguments,
    *,
    folder: Path,
    monitor: TrainingMonitor,
) -> Trainer:
    """Build the Trainer of this process; shards the model if it is to be."""
    sharded = arguments.fsdp and get_world_size() > 1
    if sharded:
        model.shard(dtype=getattr(torch, arguments.dtype))
    optimizer = _build_optimizer(model, arguments)
    trainer = (FSDPPretrainingTrainer if sharded else PretrainingTrainer)(
        trainable=model,
        args=arguments.to_transformers(
            TrainingArguments,
            max_steps=arguments.steps,
            output_dir=folder,
            save_steps=monitor.eval_steps,
            ddp_broadcast_buffers=False,  # they are the same everywhere: the embeddings, once more
            remove_unused_columns=False,
            bf16=_uses_mixed_precision(model, arguments),
            max_grad_norm=1.0,
        ),
        train_dataset=dataset,
        optimizers=(optimizer, _build_scheduler(optimizer, arguments)),
        callbacks=[monitor, *_build_tracking_callbacks(arguments, folder.parent)],
    )
    trainer.remove_callback(PrinterCallback)
    monitor.log_metrics = lambda metrics: trainer.callback_handler.on_log(
        trainer.args, trainer.state, TrainerControl(), metrics
    )
    return trainer


def _build_monitor(
    model: TrainableModel,
    dataset: PackedDataset,
    arguments: PretrainingArguments,
    *,
    compute_metrics: MetricsFunction,
    log_path: Path,
) -> TrainingMonitor:
    device, dtype = get_device(), getattr(torch, arguments.dtype)
    flops_per_token = model.flops_per_token(sequence_length=arguments.sequence_length)
    mixed_precision = _uses_mixed_precision(model, arguments)

    def evaluate() -> ValidationMetrics:
        model.module.eval()
        # the many shapes of a validation would use up torch's limit of compilations
        eager = torch.compiler.set_stance("force_eager") if arguments.torch_compile else nullcontext()
        with eager, torch.autocast(device.type, torch.bfloat16, enabled=mixed_precision):
            metrics = model.evaluate(compute_metrics)
        model.module.train()
        return broadcast_from_main(metrics)  # rounding must not make processes disagree on the best step

    return TrainingMonitor(
        tokens_per_step=dataset.tokens / arguments.steps,
        eval_steps=math.ceil(arguments.steps / arguments.num_evaluations),
        compute_metrics=evaluate,
        estimate_peak_speed=lambda: get_world_size() * get_peak_flops(device, dtype) / flops_per_token,
        log_path=log_path,
    )


def _build_optimizer(model: TrainableModel, arguments: PretrainingArguments) -> torch.optim.AdamW:
    groups = model.optimizer_groups(
        learning_rate=arguments.learning_rate,
        old_token_learning_rate=arguments.old_token_learning_rate,
        layer_learning_rate=arguments.layer_learning_rate,
    )
    return torch.optim.AdamW(
        groups,
        betas=arguments.betas,
        eps=arguments.epsilon,
        weight_decay=arguments.weight_decay,
        fused=True,  # one pass over the parameters and their moments
    )


def _build_scheduler(optimizer: torch.optim.Optimizer, arguments: PretrainingArguments) -> LambdaLR:
    warmup, decay, steps = arguments.warmup_steps, arguments.decay_steps, arguments.steps
    if arguments.lr_scheduler_type == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, warmup, steps)
    return get_wsd_schedule(optimizer, warmup, decay, num_training_steps=steps, decay_type="linear")


def _uses_mixed_precision(model: TrainableModel, arguments: PretrainingArguments) -> bool:
    """Whether trained float32 layers compute in half precision."""
    return arguments.dtype == "bfloat16" and bool(model.layer_names)


def _build_tracking_callbacks(arguments: PretrainingArguments, out: Path) -> list[TrainerCallback]:
    if not arguments.tensorboard:
        return []
    require_extra("track", required_by="pretrain.tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(str(out / "tensorboard")))]
