"""What torchrun starts in the tests of several processes: the walk of a recipe, several times, broken off on the way.

Arguments: the recipe, and the folder that gets one run for each way of sharing the work.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

from lep.distributed import rank
from lep.pipeline import load_recipe, run
from lep.training import pretraining
from lep.training.callbacks import Watch

BROKEN_AT = 3


def main(recipe: Path, out: Path) -> None:
    pretraining.shard = shard_in_half
    for parallel in ("ddp", "fsdp2"):
        walk(recipe, out / "unbroken" / parallel, parallel)
    breaking(KeyboardInterrupt)
    for parallel in ("ddp", "fsdp2"):
        try:
            walk(recipe, out / "broken" / parallel, parallel)
        except KeyboardInterrupt:
            assert (out / "broken" / parallel / "pretrain.partial").exists()
    breaking(None)
    walk(recipe, out / "broken" / "ddp", "ddp")
    breaking(SystemExit)
    walk(recipe, out / "broken" / "fsdp2", "fsdp2")


def walk(recipe: Path, out: Path, parallel: str) -> None:
    steps = load_recipe(recipe, [f"out={out}", f"pretrain.parallel={parallel}"])
    run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)


def shard_in_half(model: Any, **more: Any) -> None:
    """`shard`, and what is divided is truly so: a layer's frozen weights, too."""
    shard(model, **more)
    divided = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    own, all_ = sum(weight.to_local().numel() for weight in divided), sum(weight.numel() for weight in divided)
    assert all_ > 20_000 and abs(own / all_ - 0.5) < 0.01, (own, all_)


shard = pretraining.shard
original = Watch.on_step_end


def breaking(error: type[BaseException] | None) -> None:
    """From now on, trainings end after a step: as by Ctrl-C in all processes, or process 1 as when it is killed."""

    def on_step_end(self: Watch, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step > BROKEN_AT and error is KeyboardInterrupt:
            raise KeyboardInterrupt
        if state.global_step > BROKEN_AT + 1 and error is SystemExit and rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        original(self, args, state, control, **more)

    Watch.on_step_end = on_step_end


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
