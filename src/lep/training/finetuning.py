"""Fine-tuning by trl: on conversations (SFT), and on preferences by DPO and KTO.

The losses are those of trl's trainers. What is trained, its checkpoints, and FSDP2 are lep's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase, PrinterCallback, Trainer
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_config import KTOConfig
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from lep.data.sft_dataset import SFTDataset, load_training_samples
from lep.distributed import get_world_size
from lep.modeling.trainable_model import TrainableModel
from lep.progress import Advance, track_progress
from lep.results.stages import LossPoint
from lep.training.arguments import FinetuningArguments
from lep.training.callbacks import TrainingMonitor
from lep.training.checkpoints import TrainedWeightsMixin, find_last_checkpoint
from lep.training.fsdp_trainer import FSDPTrainerMixin

_CHECKPOINT_COUNT = 3
"""Checkpoints made in a training; only the last one is kept."""

_LOSS_POINT_FIELDS = {"step": "step", "loss": "loss", "rewards/accuracies": "accuracy", "rewards/margins": "margin"}
"""Fields of `LossPoint` by trl's names; the last two are of preferences."""


@dataclass(frozen=True)
class FinetuningOutput:
    """How a fine-tuning went; its result is in the model."""

    losses: tuple[LossPoint, ...]
    tokens_per_second: float


class _FinetuningMixin(TrainedWeightsMixin):
    """Goes before one of trl's trainers: nothing is sent anywhere, and the pass of the reference model has progress."""

    def __init__(self, *, advance: Advance, **kwargs: Any) -> None:
        self.advance = advance
        super().__init__(**kwargs)

    def compute_ref_log_probs(self, model: Any, inputs: Any) -> Any:
        """Override `compute_ref_log_probs` of DPO and KTO, which is called for each batch before training."""
        log_probs = super().compute_ref_log_probs(model, inputs)  # pyright: ignore[reportAttributeAccessIssue]
        self.advance(1)
        return log_probs

    def _send_telemetry(self) -> None:
        """Override trl's `_send_telemetry`."""

    def create_model_card(self, *_: object, **__: object) -> None:
        """Override `Trainer.create_model_card`."""


class LepSFTTrainer(_FinetuningMixin, SFTTrainer):
    """SFT on a whole model."""


class LepDPOTrainer(_FinetuningMixin, DPOTrainer):
    """DPO on a whole model."""


class LepKTOTrainer(_FinetuningMixin, KTOTrainer):
    """KTO on a whole model."""


class FSDPSFTTrainer(_FinetuningMixin, FSDPTrainerMixin, SFTTrainer):
    """SFT on a model that is sharded after the trainer is made."""


class FSDPDPOTrainer(_FinetuningMixin, FSDPTrainerMixin, DPOTrainer):
    """DPO on a model that is sharded after the trainer is made."""


class FSDPKTOTrainer(_FinetuningMixin, FSDPTrainerMixin, KTOTrainer):
    """KTO on a model that is sharded after the trainer is made."""


_CONFIGS: Mapping[str, Any] = {"sft": SFTConfig, "dpo": DPOConfig, "kto": KTOConfig}
_TRAINERS: Mapping[str, Any] = {"sft": LepSFTTrainer, "dpo": LepDPOTrainer, "kto": LepKTOTrainer}
_FSDP_TRAINERS: Mapping[str, Any] = {"sft": FSDPSFTTrainer, "dpo": FSDPDPOTrainer, "kto": FSDPKTOTrainer}


class PackedDataCollator:
    """Collate packed samples: positions restart with each conversation, by which attention tells them apart.

    Args:
        tokenizer: Its padding token, or else its end-of-sequence token, pads.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        self.collator = DataCollatorForLanguageModeling(pad_token_id=cast(int, pad), return_position_ids=True)

    def __call__(self, samples: list[dict[str, Any]]) -> dict[str, Any]:
        """Return a batch without an attention mask."""
        batch = self.collator(samples)
        del batch["attention_mask"]  # with one, positions are ignored
        return dict(batch)


def finetune(
    model: TrainableModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: SFTDataset,
    arguments: FinetuningArguments,
    *,
    folder: Path,
    log_path: Path,
) -> FinetuningOutput:
    """Fine-tune a model on all samples once, in order; resume from the last checkpoint in `folder`.

    Args:
        model: Trained in place; gathered in the main process afterwards.
        tokenizer: Its tokenizer.
        dataset: The samples, in the order of training.
        arguments: Learning rate, batch and loss.
        folder: For checkpoints.
        log_path: For a line of JSON for each step.

    Returns:
        How the training went.

    Raises:
        LepError: The loss or the gradient is not finite.
    """
    monitor = TrainingMonitor(tokens_per_step=dataset.tokens / dataset.steps, log_path=log_path)
    trainer = _build_trainer(model, tokenizer, dataset, arguments, folder=folder)
    trainer.add_callback(monitor)
    checkpoint, done = find_last_checkpoint(folder)
    completed = dataset.tokens * (done / dataset.steps)
    with track_progress("tuning", total=dataset.tokens, unit="tokens", completed=completed) as advance:
        monitor.advance = advance
        trainer.train(resume_from_checkpoint=checkpoint)
    model.gather()
    return FinetuningOutput(_extract_losses(trainer.state.log_history), monitor.tokens_per_second)


def _build_trainer(
    model: TrainableModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: SFTDataset,
    arguments: FinetuningArguments,
    *,
    folder: Path,
) -> Trainer:
    """Build the trainer of this process; shards the model if it is to be, after the pass of the reference model."""
    sharded = arguments.fsdp and get_world_size() > 1
    if arguments.gradient_checkpointing:
        model.causal_lm.activation_checkpointing_enable({"use_reentrant": False})
    samples = load_training_samples(dataset)
    batches = math.ceil(len(samples) / (arguments.micro_batch_size * get_world_size()))
    progress = (
        nullcontext(lambda _: None)
        if dataset.method == "sft"
        else track_progress("reference model", total=batches, unit="batches")
    )
    with progress as advance:
        trainer: Trainer = (_FSDP_TRAINERS if sharded else _TRAINERS)[dataset.method](
            trainable=model,
            advance=advance,
            args=_build_training_arguments(dataset, arguments, folder=folder),
            train_dataset=samples,
            processing_class=tokenizer,
            **({"data_collator": PackedDataCollator(tokenizer)} if arguments.packing else {}),
        )
    if sharded:
        model.shard(dtype=getattr(torch, arguments.dtype))
    trainer.remove_callback(PrinterCallback)
    return trainer


def _build_training_arguments(dataset: SFTDataset, arguments: FinetuningArguments, *, folder: Path) -> Any:
    method: dict[str, Any] = (
        {"dataset_kwargs": {"skip_prepare_dataset": True}}
        if dataset.method == "sft"
        else {"beta": arguments.beta, "precompute_ref_log_probs": True}
    )
    return arguments.to_transformers(
        _CONFIGS[dataset.method],
        max_steps=dataset.steps,
        output_dir=folder,
        save_steps=max(1, dataset.steps // _CHECKPOINT_COUNT),
        learning_rate=arguments.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=max(1, dataset.steps // 20),
        weight_decay=arguments.weight_decay,
        bf16=arguments.dtype == "bfloat16",
        activation_checkpointing=False,  # it is on already, where it is set
        max_length=None,
        **method,
    )


def _extract_losses(history: Sequence[Mapping[str, Any]]) -> tuple[LossPoint, ...]:
    return tuple(
        LossPoint(**{field: row[name] for name, field in _LOSS_POINT_FIELDS.items() if name in row})
        for row in history
        if "loss" in row
    )
