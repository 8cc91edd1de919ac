"""Training arguments of lep become those of transformers and trl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainingArguments
from trl.trainer.sft_config import SFTConfig

from lep.training import arguments as module
from lep.training.arguments import FinetuningArguments, TrainerArguments

VALUES: dict[str, Any] = {
    "micro_batch_size": 4,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-3,
    "weight_decay": 0.1,
    "dtype": "float32",
    "seed": 5,
    "fsdp": False,
    "gradient_checkpointing": False,
}


@pytest.mark.parametrize("arguments_class", [TrainingArguments, SFTConfig])
def test_samples_keep_their_order_and_every_step_is_logged(
    arguments_class: type[TrainingArguments], tmp_path: Path
) -> None:
    made = TrainerArguments(**VALUES).to_transformers(
        arguments_class, max_steps=7, output_dir=tmp_path, save_steps=2, max_grad_norm=0.5
    )
    assert type(made) is arguments_class
    assert (made.per_device_train_batch_size, made.gradient_accumulation_steps, made.seed) == (4, 3, 5)
    assert (made.max_steps, made.save_steps, made.save_total_limit, made.logging_steps) == (7, 2, 1, 1)
    assert made.train_sampling_strategy == "sequential" and not made.logging_nan_inf_filter
    assert made.output_dir == str(tmp_path) and made.max_grad_norm == 0.5
    assert made.report_to == [] and made.disable_tqdm


def test_several_gpus_are_not_used_by_one_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "get_device", lambda: torch.device("cpu"))
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu", 8) or 8))
    made = TrainerArguments(**VALUES).to_transformers(TrainingArguments, max_steps=1, output_dir=tmp_path, save_steps=1)
    assert made._n_gpu == 1


def test_arguments_are_frozen() -> None:
    arguments = FinetuningArguments(**VALUES, packing=True)
    assert arguments.beta == 0.1
    with pytest.raises(AttributeError):
        arguments.seed = 6  # pyright: ignore[reportAttributeAccessIssue]
