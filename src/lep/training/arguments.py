"""How a model is trained, as frozen values, and the `TrainingArguments` of transformers and trl that they make."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from transformers import TrainingArguments

from lep.modeling.loading import get_device

ArgumentsT = TypeVar("ArgumentsT", bound=TrainingArguments)


@dataclass(frozen=True, kw_only=True)
class TrainerArguments:
    """What pre-training and fine-tuning have in common."""

    micro_batch_size: int
    """Samples in a forward pass of one process."""
    gradient_accumulation_steps: int
    """Forward passes of each process in an optimizer step."""
    learning_rate: float
    """Peak learning rate."""
    weight_decay: float
    dtype: str
    """Of frozen weights and of activations."""
    seed: int
    fsdp: bool
    """Whether several processes each hold a part of the model (FSDP2); otherwise each holds all of it (DDP)."""
    gradient_checkpointing: bool

    def to_transformers(
        self, arguments_class: type[ArgumentsT], *, max_steps: int, output_dir: Path, save_steps: int, **kwargs: Any
    ) -> ArgumentsT:
        """Make training arguments: samples in their order, every step logged, one checkpoint kept, nothing sent.

        Args:
            arguments_class: `TrainingArguments` or one of trl's classes.
            max_steps: Optimizer steps of the whole training.
            output_dir: For checkpoints.
            save_steps: Steps between two checkpoints.
            **kwargs: What this training needs besides.

        Returns:
            The arguments of one process; it uses at most one GPU.
        """
        arguments = arguments_class(
            output_dir=str(output_dir),
            max_steps=max_steps,
            per_device_train_batch_size=self.micro_batch_size,
            gradient_accumulation_steps=self.gradient_accumulation_steps,
            ddp_find_unused_parameters=False,
            train_sampling_strategy="sequential",
            logging_steps=1,
            logging_nan_inf_filter=False,
            save_steps=save_steps,
            save_total_limit=1,
            seed=self.seed,
            use_cpu=get_device().type == "cpu",
            disable_tqdm=True,
            report_to="none",
            **kwargs,
        )
        arguments._n_gpu = min(arguments.n_gpu, 1)  # several GPUs of one process would be torch's DataParallel
        return arguments


@dataclass(frozen=True, kw_only=True)
class PretrainingArguments(TrainerArguments):
    """How a model is pre-trained."""

    steps: int
    sequence_length: int
    old_token_learning_rate: float
    layer_learning_rate: float
    lr_scheduler_type: Literal["cosine", "warmup_stable_decay"]
    warmup_steps: int
    decay_steps: int
    """Last steps of `warmup_stable_decay`."""
    betas: tuple[float, float]
    epsilon: float
    num_evaluations: int
    """How often, evenly over the training, the model is validated and a checkpoint is saved."""
    torch_compile: bool
    tensorboard: bool


@dataclass(frozen=True, kw_only=True)
class FinetuningArguments(TrainerArguments):
    """How a model is fine-tuned; steps and order of the samples are those of the dataset."""

    packing: bool
    """Whether samples hold several conversations."""
    beta: float = 0.1
    """β of DPO and KTO."""
