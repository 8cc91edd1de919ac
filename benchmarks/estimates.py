"""What `lep check` expects, beside what happened: time and memory of the demo's rooms, and memory of trainings.

    python benchmarks/estimates.py [RECIPE]     (default: recipes/demo.yaml, which must have been run)

The first table: seconds and GiB of every room by its manifest, and as estimated for a machine as fast as this one was
then, by the utilisation that `pretrain` noted. Rooms of one run share a process, which keeps what earlier rooms held.
The second table: a few steps of each training in a process of its own, on the demo's models: the most memory that it
held, on a GPU as torch counts it.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

TABLES = "pretrain.learn=embeddings", "pretrain.lr_layers=null"
TRAININGS: dict[str, tuple[str, ...]] = {
    "tables": TABLES,
    "new rows": ("pretrain.learn=new_rows", "pretrain.lr_layers=null", "pretrain.lr_old_rows=null"),
    "and adapters": ("pretrain.learn=embeddings+lora",),
    "everything": ("pretrain.learn=full",),
    "tables, longer": (*TABLES, "pretrain.block=512"),
    "computed twice": (*TABLES, "pretrain.block=512", "pretrain.gradient_checkpointing=true"),
}
STEPS = (
    "pretrain.tokens=4096",
    "pretrain.warmup_steps=1",
    "pretrain.evaluations=1",
    "pretrain.evaluation_characters=500",
)


def main(recipe: Path) -> None:
    """Print both tables."""
    from lep import pipeline
    from lep.estimation.hardware import this_machine
    from lep.estimation.report import estimate
    from lep.io.artifact import read_manifest

    steps = pipeline.load_recipe(recipe)
    found = {step.address: read_manifest(step.out) for step in steps}
    machine = replace(this_machine(), operations=_speed_then(steps, found))
    print(f"{'room':<22}{'expected, s':>12}{'took':>8}{'ratio':>7}{'expected, GiB':>15}{'held':>7}")
    for one in estimate(steps, machine):
        manifest = found[one.address]
        if cost := one.cost:
            held = max(cost.memory_bytes, cost.device_bytes) / 2**30
            ratio = cost.seconds / max(manifest.seconds, 1)
            print(
                f"{one.address:<22}{cost.seconds:>12.0f}{manifest.seconds:>8.0f}{ratio:>7.2f}{held:>15.2f}"
                f"{manifest.peak_memory_bytes / 2**30:>7.2f}"
            )
    print(f"\n{'training':<22}{'expected, GiB':>15}{'held':>7}{'ratio':>7}")
    for name, changes in TRAININGS.items():
        expected, held = _alone(recipe, changes)
        print(f"{name:<22}{expected / 2**30:>15.2f}{held / 2**30:>7.2f}{expected / held:>7.2f}", flush=True)


def _speed_then(steps: Sequence[Any], found: dict[str, Any]) -> float:
    """Operations a second of the machine on which `pretrain` ran."""
    from lep.estimation.meta_model import Sketch, sketched_operations, weigh
    from lep.io.model_folder import open_model
    from lep.modeling.trainable_layers import let_layers_learn

    settings, numbers = next((step.settings, found[step.address].numbers) for step in steps if step.room == "pretrain")
    sketch = Sketch(settings.model, open_model(settings.model).vocab_size)
    model = sketch.on_meta(dtype=settings.dtype, fused=False)
    model.requires_grad_(False)
    let_layers_learn(model, settings.learn, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha)
    needed = sketched_operations(model, weigh(model), learn=1.0, block=settings.block, twice=False)
    return numbers["tokens_per_second"] * needed / numbers["utilisation"]


def _alone(recipe: Path, changes: Sequence[str]) -> tuple[float, float]:
    """Bytes that one training of the recipe is expected to hold, and held."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_train, recipe, (*STEPS, *changes)).result()


def _train(recipe: Path, changes: Sequence[str]) -> tuple[float, float]:
    import torch

    from lep import pipeline
    from lep.estimation.hardware import this_machine
    from lep.estimation.report import estimate
    from lep.stages.pretrain import run

    steps = pipeline.load_recipe(recipe, changes)
    cost = next(one.cost for one in estimate(steps, this_machine()) if one.address == "pretrain")
    settings: Any = next(step.settings for step in steps if step.room == "pretrain")
    assert cost
    with tempfile.TemporaryDirectory() as out:
        run(settings, Path(out))
    if torch.cuda.is_available():
        return cost.device_bytes, torch.cuda.max_memory_allocated()
    return cost.memory_bytes, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "recipes/demo.yaml"))
