"""Continued pre-training by transformers' Trainer.

Source: arXiv 2412.21140, section on continued pre-training; METHOD §5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
    get_wsd_schedule,
)
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.utils import SAFE_WEIGHTS_NAME

from lep.config import Pretrain
from lep.data.packing import Samples
from lep.distributed import agreed, world
from lep.extras import need
from lep.modeling.device_specs import peak_operations_per_second
from lep.modeling.flops import operations_per_token
from lep.modeling.loading import device
from lep.modeling.sharding import ShardedTrainer, gather, observe, shard
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import Became, decoder_layers, learning_layers, learnt_weights
from lep.progress import progress
from lep.training.arguments import training_arguments
from lep.training.callbacks import Measured, Watch, checkpoint_folder, last_checkpoint
from lep.training.resource_errors import explained

Measure = Callable[[TrainableTables], Measured]


@dataclass(frozen=True)
class Training:
    """What training made, and the way there."""

    tables: Mapping[str, Tensor]
    layers: Mapping[str, Became]
    """What became of weights of the layers, by name."""
    curve: list[dict[str, Any]]
    """What was measured at the start, on the way and at the end."""
    losses: list[dict[str, int | float]]
    """Training loss, in nats per token, of each step."""
    best_step: int
    """The measured step with the lowest score: the tables and layers are those after it."""
    tokens_per_second: float
    utilisation: float | None
    """Of the operations that the machine could do, the share that training needed."""


def train(
    model: TrainableTables, samples: Samples, *, settings: Pretrain, measure: Measure, folder: Path, log: Path
) -> Training:
    """Train on all samples, once, in order; goes on from the last checkpoint in `folder`.

    Args:
        model: learns in place.
        samples: as many as the steps need.
        settings: learning rates, batch and schedule.
        measure: called at the start, `settings.evaluations` times on the way, the last time at the end; what it finds
            has a `score`.
        folder: for checkpoints.
        log: for one line of JSON a step and a measurement.

    Raises:
        LepError: the loss or the gradient is not finite, or memory is short.
        ArtifactError: the disk is full.
    """
    watch = _watch(model, samples, settings=settings, measure=measure, log=log)
    trainer = _trainer(model, samples, settings=settings, folder=folder, watch=watch)
    for tracker in _trackers(settings, log.parent):
        trainer.add_callback(tracker)
    checkpoint, done = last_checkpoint(folder)
    with progress(
        "training", total=samples.tokens, unit="tokens", done=samples.tokens * done / settings.steps
    ) as advance:
        watch.advance = advance
        with explained(folder, lower=f"micro_batch_size ({settings.micro_batch_size}) or block ({settings.block})"):
            trainer.train(resume_from_checkpoint=checkpoint)
    best = trainer.state.best_global_step or settings.steps
    if best != settings.steps:
        model.load_state_dict(load_file(checkpoint_folder(folder, best) / SAFE_WEIGHTS_NAME))
    gather(model)
    return _training(model, trainer.state.log_history, watch, best_step=best)


def _training(
    model: TrainableTables, history: Sequence[Mapping[str, Any]], watch: Watch, *, best_step: int
) -> Training:
    tables = {name: table().detach() for name, table in model.tables.items()}
    return Training(
        tables={name: table if table.is_meta else table.cpu() for name, table in tables.items()},  # see `gather`
        layers=learnt_weights(model.model),
        curve=[row["measured"] for row in history if "measured" in row],
        losses=[{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row],
        best_step=best_step,
        tokens_per_second=watch.tokens_per_second,
        utilisation=watch.utilisation,
    )


def _trainer(model: TrainableTables, samples: Samples, *, settings: Pretrain, folder: Path, watch: Watch) -> Trainer:
    """A Trainer for this process's part of the work; divides the model when it is to be."""
    sharded = settings.parallel == "fsdp2" and world() > 1
    if sharded:
        shard(model, layers=decoder_layers(model.model), dtype=getattr(torch, settings.dtype))
    optimizer = _optimizer(model, settings)
    trainer = (ShardedTrainer if sharded else Trainer)(
        model=model,
        args=_arguments(model, settings, folder=folder, every=watch.every),
        train_dataset=samples,
        optimizers=(optimizer, _schedule(optimizer, settings)),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    watch.publish = lambda found: trainer.callback_handler.on_log(trainer.args, trainer.state, TrainerControl(), found)
    return trainer


def _watch(model: TrainableTables, samples: Samples, *, settings: Pretrain, measure: Measure, log: Path) -> Watch:
    needed = operations_per_token(model, block=settings.block)

    def at_peak() -> float:
        return world() * peak_operations_per_second(device(), getattr(torch, settings.dtype)) / needed

    def measured() -> Measured:
        model.eval()
        # the many shapes of a measurement would use up what may be compiled
        eager = torch.compiler.set_stance("force_eager") if settings.compile else nullcontext()
        with eager, torch.autocast(device().type, torch.bfloat16, enabled=_mixes(model, settings)):
            found = observe(model, measure)
        model.train()
        return agreed(found)  # rounding must not make processes disagree on what is the best

    return Watch(
        tokens_per_step=samples.tokens / settings.steps,
        every=math.ceil(settings.steps / settings.evaluations),
        measure=measured,
        at_peak=at_peak,
        log=log,
    )


def _optimizer(model: TrainableTables, settings: Pretrain) -> torch.optim.AdamW:
    """AdamW over what learns; frozen rows and layers are not in it. Norms and biases do not decay."""
    layers = list(learning_layers(model.model).values())
    lr_old, lr_layers = settings.lr_old_rows or settings.lr, settings.lr_layers or settings.lr
    groups: list[dict[str, Any]] = [
        {"params": [table.new for table in model.tables.values()], "lr": settings.lr},
        {"params": [table.old for table in model.tables.values()], "lr": lr_old},
        {"params": [weight for weight in layers if weight.ndim > 1], "lr": lr_layers},
        {"params": [weight for weight in layers if weight.ndim == 1], "lr": lr_layers, "weight_decay": 0.0},
    ]
    for group in groups:
        group["params"] = [weight for weight in group["params"] if weight.requires_grad]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over what learns and its moments
    )


def _schedule(optimizer: torch.optim.Optimizer, settings: Pretrain) -> LambdaLR:
    up, down, steps = settings.warmup_steps, settings.decay_steps, settings.steps
    if settings.schedule == "cosine":
        return get_cosine_schedule_with_warmup(optimizer, up, steps)
    return get_wsd_schedule(optimizer, up, down, num_training_steps=steps, decay_type="linear")


def _mixes(model: TrainableTables, settings: Pretrain) -> bool:
    """Whether float32 layers, which learn, compute in half precision."""
    return settings.dtype == "bfloat16" and bool(learning_layers(model.model))


def _trackers(settings: Pretrain, out: Path) -> list[TrainerCallback]:
    if not settings.tensorboard:
        return []
    need("track", what="pretrain.tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(str(out / "tensorboard")))]


def _arguments(model: TrainableTables, settings: Pretrain, *, folder: Path, every: int) -> TrainingArguments:
    return training_arguments(
        TrainingArguments,
        settings,
        steps=settings.steps,
        folder=folder,
        save_every=every,
        ddp_broadcast_buffers=False,  # they hold what is the same everywhere: the tables, once more
        remove_unused_columns=False,
        bf16=_mixes(model, settings),
        max_grad_norm=1.0,
    )
