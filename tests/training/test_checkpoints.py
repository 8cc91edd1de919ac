"""Checkpoints hold what is trained; the last complete one is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import Trainer, TrainingArguments

from lep.modeling.trainable_layers import TrainableLayers
from lep.training.checkpoints import (
    TrainedWeightsMixin,
    checkpoint_folder,
    find_last_checkpoint,
    load_trained_weights,
)


class MixedTrainer(TrainedWeightsMixin, Trainer):
    """The smallest trainer with the mixin."""


def arguments(folder: Path, *, max_steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=max_steps,
        save_steps=2,
        per_device_train_batch_size=4,
        learning_rate=0.1,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
    )


@pytest.mark.parametrize("layers", [TrainableLayers(), TrainableLayers("all", "lora", 2, 2)], ids=["rows", "lora"])
def test_a_training_resumes_from_what_is_trained(build_model, samples, tmp_path: Path, layers: TrainableLayers) -> None:
    unbroken, first, second = (build_model(layers) for _ in range(3))
    MixedTrainer(trainable=unbroken, args=arguments(tmp_path / "unbroken", max_steps=4), train_dataset=samples).train()
    MixedTrainer(trainable=first, args=arguments(tmp_path / "out", max_steps=2), train_dataset=samples).train()
    checkpoint, step = find_last_checkpoint(tmp_path / "out")
    assert step == 2 and checkpoint == str(checkpoint_folder(tmp_path / "out", 2))
    assert load_file(Path(checkpoint) / "model.safetensors").keys() == first.parameters.keys()
    trainer = MixedTrainer(trainable=second, args=arguments(tmp_path / "out", max_steps=4), train_dataset=samples)
    trainer.train(resume_from_checkpoint=checkpoint)
    expected = unbroken.state_dict()
    assert all(torch.equal(weight, expected[name]) for name, weight in second.state_dict().items())
    load_trained_weights(second, Path(checkpoint))
    assert all(torch.equal(weight, first.state_dict()[name]) for name, weight in second.state_dict().items())


@pytest.mark.parametrize("state", [None, "", '{"log_history": [{"loss": 5'])
def test_an_incomplete_checkpoint_is_passed_over(tmp_path: Path, state: str | None) -> None:
    assert find_last_checkpoint(tmp_path) == (None, 0)
    for step in (2, 10):
        checkpoint_folder(tmp_path, step).mkdir()
        (checkpoint_folder(tmp_path, step) / "trainer_state.json").write_text("{}")
    assert find_last_checkpoint(tmp_path) == (str(tmp_path / "checkpoint-10"), 10)
    checkpoint_folder(tmp_path, 12).mkdir()
    if state is not None:
        (tmp_path / "checkpoint-12" / "trainer_state.json").write_text(state)
    assert find_last_checkpoint(tmp_path)[1] == 10
