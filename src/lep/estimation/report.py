"""What a recipe's rooms will take, before any of them is run: no weight is read, and none is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lep.errors import LepError
from lep.estimation.costs import Cost, in_words
from lep.estimation.hardware import Machine
from lep.estimation.inputs import Known
from lep.estimation.stages import ROOM_COSTS
from lep.pipeline import Step

_ALWAYS = (
    "expect half or double, and what else the machine does on top; `python benchmarks/estimates.py` compares",
    "disk: at the most; weight files that do not change are hard links",
)


@dataclass(frozen=True)
class Expected:
    """What one step will take, or why that cannot be told."""

    address: str
    cost: Cost | None
    why: str = ""


def estimate(steps: Sequence[Step], machine: Machine) -> list[Expected]:
    """What each step takes on a machine, by the formulas of `lep.estimation.costs`; needs the extra `train`."""
    known = Known(machine)
    return [_expected(step, known) for step in steps]


def lines(found: Sequence[Expected]) -> list[tuple[str, ...]]:
    """A row of a table for each step: its address, tokens, time, memory of each GPU, of the machine, and disk."""
    return [(one.address, *(_cells(one.cost) if one.cost else ("", "not known", "", "", ""))) for one in found]


def remarks(found: Sequence[Expected], machine: Machine) -> list[str]:
    """What was guessed, what could not be told, and what does not fit."""
    told = _unknown(found)
    for one in found:
        told += [f"{one.address}: {words}" for words in (one.cost.assumes if one.cost else ())]
        if one.cost and (held := _held(one.cost, machine)) > machine.memory:
            told.append(
                f"{one.address}: {_gib(held)} do not fit into the {_gib(machine.memory)} of {machine.name}: "
                "a smaller micro_batch_size, gradient_checkpointing, or parallel=fsdp2 on several"
            )
    now = [] if machine.accelerated else ["speed: as this machine's processors multiply at this moment"]
    return [*told, *now, *_ALWAYS]


def summed(found: Sequence[Expected], machine: Machine) -> str:
    """All steps together, one after the other, in a sentence."""
    costs = [one.cost for one in found if one.cost]
    if 2 * len(costs) < len(found):
        return f"on {machine.name}: too little is known for a sum"
    seconds = sum((cost.seconds for cost in costs), start=0.0)
    hours = sum(cost.seconds * cost.devices for cost in costs) / 3600
    disk = sum(cost.bytes_written for cost in costs) + max((cost.scratch_bytes for cost in costs), default=0)
    least = "" if len(costs) == len(found) else "at least "
    gpu = f", {hours:,.1f} GPU-hours" if machine.accelerated else ""
    return f"on {machine.name}: {least}{in_words(seconds)}{gpu}, {disk / 1e9:,.0f} GB of disk"


def _expected(step: Step, known: Known) -> Expected:
    try:
        return Expected(step.address, ROOM_COSTS[step.room](step.settings, step.out, known))
    except LepError as error:
        known.unknown.add(step.out)
        return Expected(step.address, None, str(error))


def _unknown(found: Sequence[Expected]) -> list[str]:
    """Why some steps cannot be told, a sentence a reason, and what would help."""
    unknown: dict[str, list[str]] = {}
    for one in found:
        if one.why:
            unknown.setdefault(one.why, []).append(one.address)
    told = [f"{', '.join(addresses)}: {why}" for why, addresses in unknown.items()]
    return [*told, "an estimate reads of each model its config.json alone, and of texts their size"] if told else []


def _cells(cost: Cost) -> tuple[str, ...]:
    tokens = f"{cost.tokens:,}" if cost.tokens else ""
    device = f"{cost.devices} × {cost.device_bytes / 2**30:,.1f}" if cost.devices else ""
    disk = (cost.bytes_written + cost.scratch_bytes) / 1e9
    return tokens, in_words(cost.seconds), device, f"{cost.memory_bytes / 2**30:,.1f}", f"{disk:,.1f}"


def _held(cost: Cost, machine: Machine) -> float:
    return cost.device_bytes if machine.accelerated else cost.memory_bytes


def _gib(size: float) -> str:
    return f"{size / 2**30:,.1f} GiB"
