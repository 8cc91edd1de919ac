"""A sharded model trains as a whole one, and its checkpoints serve both. One process holds all shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed import HashStore
from torch.distributed.tensor import DTensor
from transformers import Trainer, TrainingArguments

from lep.modeling.trainable_layers import TrainableLayers
from lep.training.checkpoints import TrainedWeightsMixin, find_last_checkpoint
from lep.training.pretraining import FSDPPretrainingTrainer, PretrainingTrainer

LAYERS = TrainableLayers("all")


@pytest.fixture(autouse=True)
def process_group(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def arguments(folder: Path, *, max_steps: int) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=max_steps,
        save_steps=2,
        per_device_train_batch_size=4,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        train_sampling_strategy="sequential",
        use_cpu=True,
        report_to="none",
        remove_unused_columns=False,
        disable_tqdm=True,
    )


def train(model, samples, folder: Path, *, max_steps: int, sharded: bool, checkpoint: str | None = None) -> None:
    if sharded:
        model.shard(dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters.values(), lr=1e-2)
    trainer = (FSDPPretrainingTrainer if sharded else PretrainingTrainer)(
        trainable=model,
        args=arguments(folder, max_steps=max_steps),
        train_dataset=samples,
        optimizers=(optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)),
    )
    trainer.train(resume_from_checkpoint=checkpoint)


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_training_resumes_sharded_or_not(build_model, samples, tmp_path: Path, first: bool, second: bool) -> None:
    expected, model, resumed = (build_model(LAYERS) for _ in range(3))
    train(expected, samples, tmp_path / "unbroken", max_steps=4, sharded=False)
    train(model, samples, tmp_path / "out", max_steps=2, sharded=first)
    checkpoint, step = find_last_checkpoint(tmp_path / "out")
    assert step == 2
    train(resumed, samples, tmp_path / "out", max_steps=4, sharded=second, checkpoint=checkpoint)
    assert any(isinstance(weight, DTensor) for weight in resumed.parameters.values()) is second
    states = resumed.state_dict(), expected.state_dict()
    for name, weight in states[1].items():
        torch.testing.assert_close(states[0][name], weight, rtol=1e-5, atol=1e-6, msg=name)


def test_the_trainer_neither_wraps_nor_reduces_late(build_model, samples, tmp_path: Path) -> None:
    trainer = FSDPPretrainingTrainer(
        trainable=build_model(LAYERS), args=arguments(tmp_path, max_steps=1), train_dataset=samples
    )
    assert trainer.is_distributed_loading_by_transformers is True
    with trainer._defer_fsdp_gradient_reduction() as context:
        assert context is None
    assert isinstance(trainer, Trainer) and isinstance(trainer, TrainedWeightsMixin)
