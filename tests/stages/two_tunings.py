"""What torchrun starts in the tests of tuning by several processes: the walk of each recipe, in both ways of sharing.

Arguments: the folder that gets the runs, and the recipes.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch.distributed.tensor import DTensor

from lep.pipeline import load_recipe, run
from lep.training import finetuning as tuning
from lep.training.callbacks import Watch

WAYS = ("ddp", "fsdp2")

seen: list[int] = []
"""How many processes each step was made by, and how many parts what is divided was in."""


def main(out: Path, recipes: list[Path]) -> None:
    Watch.on_step_end = on_step_end
    tuning.shard = shard_and_count
    for recipe in recipes:
        for parallel in WAYS:
            seen.clear()
            steps = load_recipe(recipe, [f"out={out / recipe.stem / parallel}", f"tune.parallel={parallel}"])
            run(steps, replace=False, started=lambda _: None, ended=lambda *_: None)
            assert len(seen) == 3 + (parallel == "fsdp2") and set(seen) == {2}, seen


def on_step_end(self: Watch, args: Any, state: Any, control: Any, **more: Any) -> None:
    seen.append(args.world_size)
    original(self, args, state, control, **more)


def shard_and_count(model: Any, **more: Any) -> None:
    """`shard`, and what is divided is truly so."""
    shard(model, **more)
    divided = [weight for weight in model.parameters() if isinstance(weight, DTensor)]
    own, all_ = sum(weight.to_local().numel() for weight in divided), sum(weight.numel() for weight in divided)
    assert all_ > 20_000, all_
    seen.append(round(all_ / own))


original, shard = Watch.on_step_end, tuning.shard


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
