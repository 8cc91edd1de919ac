"""Checkpoints of a training: they hold what is trained and nothing else; the last complete one is resumed from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
from transformers.utils import SAFE_WEIGHTS_NAME

from lep.modeling.trainable_model import TrainableModel


class TrainedWeightsMixin:
    """Goes before a Trainer class: its checkpoints hold what is trained.

    Args:
        trainable: The model that is trained.
        **kwargs: Of the Trainer, without `model`.
    """

    args: Any

    def __init__(self, *, trainable: TrainableModel, **kwargs: Any) -> None:
        self.trainable = trainable
        super().__init__(**kwargs, model=trainable.module)  # pyright: ignore[reportCallIssue]

    def _save(self, output_dir: str | None = None, state_dict: object = None) -> None:
        """Override `Trainer._save`."""
        tensors = self.trainable.state_dict()
        if self.args.should_save:
            folder = Path(output_dir or self.args.output_dir)
            folder.mkdir(parents=True, exist_ok=True)
            save_file(tensors, folder / SAFE_WEIGHTS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        """Override `Trainer._load_from_checkpoint`."""
        load_trained_weights(self.trainable, Path(resume_from_checkpoint))


def load_trained_weights(trainable: TrainableModel, checkpoint: Path) -> None:
    """Load the weights that `TrainedWeightsMixin` saved in a checkpoint folder."""
    trainable.load_state_dict(load_file(checkpoint / SAFE_WEIGHTS_NAME))


def checkpoint_folder(folder: Path | str | None, step: int) -> Path:
    """Return where the Trainer writes the checkpoint of a step."""
    return Path(str(folder)) / f"{PREFIX_CHECKPOINT_DIR}-{step}"


def find_last_checkpoint(folder: Path) -> tuple[str | None, int]:
    """Find the last complete checkpoint in a folder.

    The Trainer writes its state last: a checkpoint whose state is missing or cut off was being written when the process
    ended.

    Args:
        folder: The output folder of a Trainer.

    Returns:
        The path of the checkpoint and its step; `None` and 0 if there is none.
    """
    states = folder.glob(f"{PREFIX_CHECKPOINT_DIR}-*/{TRAINER_STATE_NAME}")
    complete = [path.parent for path in states if _is_json(path)]
    steps = {int(path.name.removeprefix(f"{PREFIX_CHECKPOINT_DIR}-")): str(path) for path in complete}
    return (steps[max(steps)], max(steps)) if steps else (None, 0)


def _is_json(file: Path) -> bool:
    try:
        json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
