"""What every training here asks of transformers' Trainer, and of trl's, which are made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from transformers import TrainingArguments

from lep.config import Pretrain, Tuning
from lep.distributed import micro_batches
from lep.modeling.loading import device

A = TypeVar("A", bound=TrainingArguments)


def training_arguments(
    kind: type[A], settings: Pretrain | Tuning, *, steps: int, folder: Path, save_every: int, **more: Any
) -> A:
    """Samples in their order, every step logged, one checkpoint kept, nothing printed and nothing sent.

    Args:
        kind: of arguments.
        settings: batch and seed.
        steps: of the whole training.
        folder: for checkpoints.
        save_every: steps between two checkpoints.
        more: what this training asks besides.
    """
    arguments = kind(
        output_dir=str(folder),
        max_steps=steps,
        per_device_train_batch_size=settings.micro_batch_size,
        gradient_accumulation_steps=micro_batches(
            batch_size=settings.batch_size, micro_batch_size=settings.micro_batch_size
        ),
        ddp_find_unused_parameters=False,
        train_sampling_strategy="sequential",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_steps=save_every,
        save_total_limit=1,
        seed=settings.seed,
        use_cpu=device().type == "cpu",
        disable_tqdm=True,
        report_to="none",
        **more,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs of one process would be torch's DataParallel
    return arguments
