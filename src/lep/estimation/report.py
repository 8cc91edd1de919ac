"""What the steps of a recipe will take, before any of them runs; no weight is read and none is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lep.errors import LepError
from lep.estimation.costs import StageCost, format_duration
from lep.estimation.hardware import Machine, detect_machine
from lep.estimation.inputs import InputInfo, OutputInfo
from lep.pipeline import PipelineStep

_GENERAL_REMARKS = (
    "expect half or double, and what else the machine does on top; `python benchmarks/estimates.py` compares",
    "disk: at the most; weight files that do not change are hard links",
)


@dataclass(frozen=True)
class StepEstimate:
    """What one step will take, or why that is not known."""

    step_name: str
    cost: StageCost | None
    unknown_reason: str = ""


def estimate(steps: Sequence[PipelineStep], machine: Machine) -> list[StepEstimate]:
    """Estimate each step on a machine by the formulas of `lep.estimation.costs`; needs the extra `train`."""
    outputs: dict[Path, OutputInfo | None] = {}
    estimates = []
    for step in steps:
        item, outputs[step.out] = _estimate_step(step, InputInfo(machine, outputs))
        estimates.append(item)
    return estimates


def estimate_propagation(step: PipelineStep) -> StageCost | None:
    """Estimate a step of `propagate` whose inputs exist, on this machine; None for other steps."""
    if step.stage.name != "propagate" or not all(path.exists() for path in step.plan.inputs.values()):
        return None
    return _estimate_step(step, InputInfo(detect_machine()))[0].cost


def format_rows(estimates: Sequence[StepEstimate]) -> list[tuple[str, ...]]:
    """Format one table row per step: its name, tokens, time, memory of each GPU and of the machine, disk."""
    unknown = ("", "not known", "", "", "")
    return [(item.step_name, *(_format_cells(item.cost) if item.cost else unknown)) for item in estimates]


def list_remarks(estimates: Sequence[StepEstimate], machine: Machine) -> list[str]:
    """List what was assumed, what is not known, and what does not fit into the machine's memory."""
    remarks = _explain_unknown_costs(estimates)
    for item in estimates:
        remarks += [f"{item.step_name}: {assumption}" for assumption in (item.cost.assumptions if item.cost else ())]
        if item.cost and (required := _get_required_memory(item.cost, machine)) > machine.memory_bytes:
            remarks.append(
                f"{item.step_name}: {_format_gib(required)} do not fit into the {_format_gib(machine.memory_bytes)} of "
                f"{machine.name}: use a smaller micro_batch_size, gradient_checkpointing, or parallel=fsdp2 on several"
            )
    if not machine.has_accelerator:
        remarks.append("speed: measured on this machine's processors at this moment")
    return [*remarks, *_GENERAL_REMARKS]


def format_total(estimates: Sequence[StepEstimate], machine: Machine) -> str:
    """Format the sum of all steps, one after the other, as a sentence."""
    costs = [item.cost for item in estimates if item.cost]
    if 2 * len(costs) < len(estimates):
        return f"on {machine.name}: too little is known for a sum"
    seconds = sum((cost.seconds for cost in costs), start=0.0)
    hours = sum(cost.seconds * cost.device_count for cost in costs) / 3600
    disk = sum(cost.bytes_written for cost in costs) + max((cost.scratch_bytes for cost in costs), default=0)
    lower_bound = "" if len(costs) == len(estimates) else "at least "
    gpu = f", {hours:,.1f} GPU-hours" if machine.has_accelerator else ""
    return f"on {machine.name}: {lower_bound}{format_duration(seconds)}{gpu}, {disk / 1e9:,.0f} GB of disk"


def _estimate_step(step: PipelineStep, inputs: InputInfo) -> tuple[StepEstimate, OutputInfo | None]:
    """Estimate a step and the shape of its result; both are None if an input is not known."""
    try:
        result = step.stage.load(step.stage.estimate)(step.settings, inputs)
    except LepError as error:
        return StepEstimate(step.name, None, str(error)), None
    return StepEstimate(step.name, result.cost), result.output


def _explain_unknown_costs(estimates: Sequence[StepEstimate]) -> list[str]:
    """Name the steps without an estimate, one sentence per reason, and say what an estimate needs."""
    steps_by_reason: dict[str, list[str]] = {}
    for item in estimates:
        if item.unknown_reason:
            steps_by_reason.setdefault(item.unknown_reason, []).append(item.step_name)
    remarks = [f"{', '.join(names)}: {reason}" for reason, names in steps_by_reason.items()]
    return [*remarks, "an estimate needs each model's config.json and the size of the texts"] if remarks else []


def _format_cells(cost: StageCost) -> tuple[str, ...]:
    tokens = f"{cost.tokens:,}" if cost.tokens else ""
    device = f"{cost.device_count} × {cost.device_memory_bytes / 2**30:,.1f}" if cost.device_count else ""
    disk = (cost.bytes_written + cost.scratch_bytes) / 1e9
    return tokens, format_duration(cost.seconds), device, f"{cost.memory_bytes / 2**30:,.1f}", f"{disk:,.1f}"


def _get_required_memory(cost: StageCost, machine: Machine) -> float:
    return cost.device_memory_bytes if machine.has_accelerator else cost.memory_bytes


def _format_gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
