"""Run by torchrun in the tests of fine-tuning by several processes: each recipe, with both strategies.

Arguments: the folder that gets the runs, and the recipes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

from lep.modeling import trainable_model
from lep.pipeline import load_recipe, run_steps
from lep.training.callbacks import TrainingMonitor

STRATEGIES = ("ddp", "fsdp2")

seen: list[int] = []
"""Number of processes of each step, and number of shards of what is sharded."""


def main(out: Path, recipes: list[Path]) -> None:
    TrainingMonitor.on_step_end = on_step_end
    trainable_model.shard_model = shard_and_count
    for recipe in recipes:
        for parallel in STRATEGIES:
            seen.clear()
            steps = load_recipe(recipe, [f"out={out / recipe.stem / parallel}", f"tune.parallel={parallel}"])
            run_steps(steps, replace=False, on_start=lambda _: None, on_end=lambda *_: None)
            assert len(seen) == 3 + (parallel == "fsdp2") and set(seen) == {2}, seen


def on_step_end(self: TrainingMonitor, args: Any, state: Any, control: Any, **more: Any) -> None:
    seen.append(args.world_size)
    original(self, args, state, control, **more)


def shard_and_count(model: Any, **kwargs: Any) -> None:
    """Shard, and count the shards."""
    shard(model, **kwargs)
    sharded = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    local, total = sum(weight.to_local().numel() for weight in sharded), sum(weight.numel() for weight in sharded)
    assert total > 20_000, total
    seen.append(round(total / local))


original, shard = TrainingMonitor.on_step_end, trainable_model.shard_model


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
