"""Run by torchrun in the tests of several processes: a recipe, several times, with interruptions.

Arguments: the recipe, and the folder that gets a run for each strategy.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

from lep.distributed import get_rank
from lep.modeling import trainable_model
from lep.pipeline import load_recipe, run_steps
from lep.training.callbacks import TrainingMonitor

BROKEN_AT = 3


def main(recipe: Path, out: Path) -> None:
    trainable_model.shard_model = shard_and_check
    for parallel in ("ddp", "fsdp2"):
        run_recipe(recipe, out / "unbroken" / parallel, parallel)
    breaking(KeyboardInterrupt)
    for parallel in ("ddp", "fsdp2"):
        try:
            run_recipe(recipe, out / "broken" / parallel, parallel)
        except KeyboardInterrupt:
            assert (out / "broken" / parallel / "pretrain.partial").exists()
    breaking(None)
    run_recipe(recipe, out / "broken" / "ddp", "ddp")
    breaking(SystemExit)
    run_recipe(recipe, out / "broken" / "fsdp2", "fsdp2")


def run_recipe(recipe: Path, out: Path, parallel: str) -> None:
    steps = load_recipe(recipe, [f"out={out}", f"pretrain.parallel={parallel}"])
    run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)


def shard_and_check(model: Any, **kwargs: Any) -> None:
    """Shard, and check that each process holds half of what is sharded, frozen weights of layers, too."""
    shard(model, **kwargs)
    sharded = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    local, total = sum(weight.to_local().numel() for weight in sharded), sum(weight.numel() for weight in sharded)
    assert total > 20_000 and abs(local / total - 0.5) < 0.01, (local, total)


shard = trainable_model.shard_model
original = TrainingMonitor.on_step_end


def breaking(error: type[BaseException] | None) -> None:
    """End trainings after a step: as by Ctrl-C in all processes, or process 1 as when it is killed."""

    def on_step_end(self: TrainingMonitor, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step > BROKEN_AT and error is KeyboardInterrupt:
            raise KeyboardInterrupt
        if state.global_step > BROKEN_AT + 1 and error is SystemExit and get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, args, state, control, **more)

    TrainingMonitor.on_step_end = on_step_end


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
