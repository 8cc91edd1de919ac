"""Continued pre-training of the tables, by transformers' Trainer.

Source: arXiv 2412.21140, section on continued pre-training; METHOD §5.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    get_cosine_schedule_with_warmup,
)
from transformers.trainer import TRAINER_STATE_NAME

from lep.config import Pretrain
from lep.engine.models import device
from lep.engine.packing import Samples
from lep.engine.tables import TrainableTables
from lep.errors import LepError
from lep.progress import Advance, note, progress

Measure = Callable[[torch.nn.Module], Mapping[str, float]]
"""Bits per byte of the model by language."""


@dataclass(frozen=True)
class Training:
    """The tables after training, and the way there."""

    tables: Mapping[str, Tensor]
    curve: list[dict[str, Any]] = field(default_factory=list)
    """Held-out bits per byte at the start, on the way and at the end."""
    losses: list[dict[str, int | float]] = field(default_factory=list)
    """Training loss, in nats per token, of each step."""
    tokens_per_second: float = 0.0


def train_tables(
    model: TrainableTables, samples: Samples, *, settings: Pretrain, measure: Measure, folder: Path
) -> Training:
    """Train the tables on all samples, once, in order; goes on from the last checkpoint in `folder`.

    Args:
        model: gets new tables in place.
        samples: as many as the steps need.
        settings: learning rates, batch and schedule.
        measure: called at the start, `settings.evaluations` times on the way, the last time at the end.
        folder: for checkpoints.

    Raises:
        LepError: the loss is not finite.
    """
    steps = len(samples) // settings.batch_size
    optimizer = _optimizer(model, settings)
    every = math.ceil(steps / settings.evaluations)
    watch = Watch(tokens_per_step=samples.tokens / steps, every=every, measure=lambda: _measured(model, measure))
    trainer = Trainer(
        model=model,
        args=_arguments(settings, steps=steps, folder=folder, every=every),
        train_dataset=samples,
        optimizers=(optimizer, get_cosine_schedule_with_warmup(optimizer, settings.warmup_steps, steps)),
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    checkpoint, done = last_checkpoint(folder)
    with progress("training", total=samples.tokens, unit="tokens", done=samples.tokens * done / steps) as advance:
        watch.advance = advance
        trainer.train(resume_from_checkpoint=checkpoint)
    history: list[dict[str, Any]] = trainer.state.log_history
    return Training(
        tables={name: table().detach() for name, table in model.tables.items()},
        curve=[row["measured"] for row in history if "measured" in row],
        losses=[{"step": row["step"], "loss": row["loss"]} for row in history if "loss" in row],
        tokens_per_second=watch.tokens_per_second,
    )


def _measured(model: TrainableTables, measure: Measure) -> dict[str, Any]:
    model.eval()
    found = measure(model)
    model.train()
    note("held-out bits per byte: " + ", ".join(f"{language} {value:.4f}" for language, value in found.items()))
    return {"bits_per_byte": dict(found)}


def last_checkpoint(folder: Path) -> tuple[str | None, int]:
    """The last whole checkpoint in a folder and its step; none and 0 when there is none.

    The Trainer writes its state last: a checkpoint without it was being written when the process ended.
    """
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{TRAINER_STATE_NAME}")]
    steps = {int(path.name.removeprefix("checkpoint-")): str(path) for path in whole}
    return (steps[max(steps)], max(steps)) if steps else (None, 0)


class Watch(TrainerCallback):
    """Measures on the way, tells the progress, and stops a training whose loss is no number.

    With `every` 0 nothing is measured. Measurements live in the Trainer's history: they come back with its checkpoints.
    """

    def __init__(self, *, tokens_per_step: float, every: int = 0, measure: Callable[[], dict[str, Any]] = dict) -> None:
        self.tokens_per_step, self.every, self.measure = tokens_per_step, every, measure
        self.advance: Advance = lambda amount: None
        self.seconds, self.steps, self.started = 0.0, 0, 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        if self.every and state.global_step == 0:
            self._record(state)

    def on_step_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object) -> None:
        self.seconds += time.monotonic() - self.started
        self.steps += 1
        self.advance(self.tokens_per_step)
        if self.every and (state.global_step % self.every == 0 or state.global_step == state.max_steps):
            self._record(state)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **more: Any) -> None:
        logs = more["logs"]
        if not math.isfinite(logs.get("loss", 0.0)):
            raise LepError(f"the loss is {logs['loss']} at step {state.global_step}; lower the learning rate")

    @property
    def tokens_per_second(self) -> float:
        """Rate of the steps of this process, measurements left out."""
        return self.steps * self.tokens_per_step / self.seconds if self.seconds else 0.0

    def _record(self, state: TrainerState) -> None:
        tokens = round(state.global_step * self.tokens_per_step)
        measured = {"step": state.global_step, "tokens": tokens, **self.measure()}
        history: list[Any] = state.log_history
        history.append({"step": state.global_step, "measured": measured})


def _optimizer(model: TrainableTables, settings: Pretrain) -> torch.optim.AdamW:
    """AdamW over the rows that learn; frozen rows are not in it."""
    lr_old = settings.lr if settings.lr_old_rows is None else settings.lr_old_rows
    if not lr_old:
        model.freeze_old_rows()
    groups = []
    for part, lr in (("old", lr_old), ("new", settings.lr)):
        rows = [getattr(table, part) for table in model.tables.values()]
        groups.append({"params": [row for row in rows if row.requires_grad], "lr": lr})
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,  # one pass over the rows and their moments
    )


def _arguments(settings: Pretrain, *, steps: int, folder: Path, every: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=settings.batch_size // settings.micro_batch_size,
        train_sampling_strategy="sequential",
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=every,
        save_total_limit=1,
        seed=settings.seed,
        use_cpu=device().type == "cpu",
        disable_tqdm=True,
        report_to="none",
    )
