"""What a run is to happen on: this machine, as it is found, or one that is named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from lep.distributed import world
from lep.errors import UsageError
from lep.modeling.device_specs import DEVICES, known_device, peak_operations_per_second
from lep.modeling.loading import device

_NAME = re.compile(r"(?:(\d+)x)?(.+)")

_PROCESSOR_BANDWIDTH, _ACCELERATOR_BANDWIDTH = 1e10, 5e11
"""Bytes a second that one busy processor reads from memory, and an accelerator of which no more is known."""

NODE = 8
"""Devices of a node; more are on several nodes."""


@dataclass(frozen=True)
class Machine:
    """One process computes on each of its devices."""

    name: str
    devices: int
    accelerated: bool
    operations: float
    """A second, of half-precision products, of one device."""
    bandwidth: float
    """Bytes a second from a device's memory."""
    memory: float
    """Bytes of a device; of the whole machine where it computes on its processors."""


def this_machine() -> Machine:
    """The machine as torch finds it; of a processor the speed is measured."""
    found, name = device(), "this machine"
    operations = peak_operations_per_second(found, torch.bfloat16)
    if found.type == "cpu":
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return Machine(name, world(), False, operations, _PROCESSOR_BANDWIDTH, memory)
    gpu = torch.cuda.get_device_properties(found)
    known = known_device(gpu.name)
    bandwidth = known.bandwidth if known else _ACCELERATOR_BANDWIDTH
    return Machine(gpu.name, world(), True, operations, bandwidth, float(gpu.total_memory))


def named_machine(words: str) -> Machine:
    """`H100`, or several of them: `8xH100`.

    Raises:
        UsageError: no such device is known.
    """
    found = _NAME.fullmatch(words)
    known = DEVICES.get(found[2]) if found else None
    if not found or not known or found[1] == "0":
        raise UsageError(f"{words}: no known machine; name one of {', '.join(DEVICES)}, or several of one as 8xH100")
    count = int(found[1] or 1)
    return Machine(words, count, True, known.operations, known.bandwidth, float(known.gib * 2**30))
