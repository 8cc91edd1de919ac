"""A Trainer for a model that lep shards by FSDP2 itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from lep.modeling.sharding import full_optimizer_state_on_main, load_optimizer_state


class FSDPTrainerMixin:
    """Goes before a Trainer class: it takes a sharded model as it is and writes whole checkpoints, for any Trainer.

    The Trainer neither wraps, nor saves from one process alone, a model that transformers sharded when it was loaded.
    This class therefore claims that it did (`is_distributed_loading_by_transformers`). The Trainer does not save the
    optimizer of such a model; this class does.

    Args:
        **kwargs: Of the Trainer.
    """

    args: Any
    optimizer: Any
    """accelerate's wrapper of the optimizer."""
    lr_scheduler: Any

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.is_distributed_loading_by_transformers = True

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Override `Trainer._save_optimizer_and_scheduler`."""
        state_dict = full_optimizer_state_on_main(self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(state_dict, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Override `Trainer._load_optimizer_and_scheduler`."""
        if checkpoint is None:
            return
        state_dict = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        load_optimizer_state(self.optimizer.optimizer, state_dict)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Override `Trainer._defer_fsdp_gradient_reduction`: reduce after each pass.

        Gradients that stay whole until the optimizer step would take the memory that sharding saves.
        """
        yield
