"""Compare the estimates of `lep check` with measurements: time and memory of the demo's stages, memory of trainings.

    python benchmarks/estimates.py [RECIPE]     (default: recipes/demo.yaml, which must have been run)

The first table has seconds and GiB of every step from its manifest, and the estimates for a machine as fast as this one
was then, by the MFU in the result of `pretrain`. Steps of one run share a process, which keeps memory of earlier steps.
The second table runs a few steps of several trainings, each in its own process, on the demo's models: peak memory, on a
GPU as torch counts it.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

EMBEDDINGS = "pretrain.trainable=embeddings", "pretrain.layer_learning_rate=null"
TRAININGS: dict[str, tuple[str, ...]] = {
    "embeddings": EMBEDDINGS,
    "new rows": (
        "pretrain.trainable=new_tokens",
        "pretrain.layer_learning_rate=null",
        "pretrain.old_token_learning_rate=null",
    ),
    "embeddings and LoRA": ("pretrain.trainable=embeddings+lora",),
    "full": ("pretrain.trainable=full",),
    "embeddings, longer": (*EMBEDDINGS, "pretrain.sequence_length=512"),
    "with checkpointing": (*EMBEDDINGS, "pretrain.sequence_length=512", "pretrain.gradient_checkpointing=true"),
}
STEPS = (
    "pretrain.tokens=4096",
    "pretrain.warmup_steps=1",
    "pretrain.num_evaluations=1",
    "pretrain.evaluation_characters=500",
)


def main(recipe: Path) -> None:
    """Print both tables."""
    from lep import pipeline
    from lep.estimation.hardware import detect_machine
    from lep.estimation.report import estimate
    from lep.io.artifact import read_manifest

    steps = pipeline.load_recipe(recipe)
    manifests = {step.name: read_manifest(step.out) for step in steps}
    machine = replace(detect_machine(), peak_flops=_compute_peak_flops(steps, manifests))
    print(f"{'step':<22}{'expected, s':>12}{'measured':>10}{'ratio':>7}{'expected, GiB':>15}{'measured':>10}")
    for item in estimate(steps, machine):
        manifest = manifests[item.step_name]
        if cost := item.cost:
            memory = max(cost.memory_bytes, cost.device_memory_bytes) / 2**30
            ratio = cost.seconds / max(manifest.seconds, 1)
            print(
                f"{item.step_name:<22}{cost.seconds:>12.0f}{manifest.seconds:>10.0f}{ratio:>7.2f}{memory:>15.2f}"
                f"{manifest.peak_memory_bytes / 2**30:>10.2f}"
            )
    print(f"\n{'training':<22}{'expected, GiB':>15}{'measured':>10}{'ratio':>7}")
    for name, changes in TRAININGS.items():
        expected, measured = _run_in_new_process(recipe, changes)
        print(f"{name:<22}{expected / 2**30:>15.2f}{measured / 2**30:>10.2f}{expected / measured:>7.2f}", flush=True)


def _compute_peak_flops(steps: Sequence[Any], manifests: Mapping[str, Any]) -> float:
    """Compute the peak FLOPs per second that `pretrain` measured, from its speed and its MFU."""
    from lep.estimation.meta_model import MetaModel, estimate_flops_per_token
    from lep.io.model_folder import open_model
    from lep.modeling.trainable_layers import TrainableLayers
    from lep.results.stages import PretrainingResult, parse_stage_result

    step = next(step for step in steps if step.stage.name == "pretrain")
    settings = step.settings
    result = parse_stage_result(manifests[step.name].result, stage="pretrain")
    assert isinstance(result, PretrainingResult) and result.mfu
    layers = TrainableLayers.from_setting(
        settings.trainable, lora_rank=settings.lora_rank, lora_alpha=settings.lora_alpha
    )
    meta_model = MetaModel(settings.model, open_model(settings.model).vocab_size)
    model = meta_model.build(dtype=settings.dtype, fused_attention=False, embeddings="both", layers=layers)
    flops_per_token = estimate_flops_per_token(
        model, sequence_length=settings.sequence_length, gradient_checkpointing=False
    )
    return result.tokens_per_second * flops_per_token / result.mfu


def _run_in_new_process(recipe: Path, changes: Sequence[str]) -> tuple[float, float]:
    """Return the expected and the measured memory of one training, in bytes."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(_train, recipe, (*STEPS, *changes)).result()


def _train(recipe: Path, changes: Sequence[str]) -> tuple[float, float]:
    import torch

    from lep import pipeline
    from lep.estimation.hardware import detect_machine
    from lep.estimation.report import estimate
    from lep.stages.pretrain import run

    steps = pipeline.load_recipe(recipe, changes)
    cost = next(item.cost for item in estimate(steps, detect_machine()) if item.step_name == "pretrain")
    settings: Any = next(step.settings for step in steps if step.stage.name == "pretrain")
    assert cost
    with tempfile.TemporaryDirectory() as out:
        run(settings, Path(out))
    if torch.cuda.is_available():
        return cost.device_memory_bytes, torch.cuda.max_memory_allocated()
    return cost.memory_bytes, 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "recipes/demo.yaml"))
