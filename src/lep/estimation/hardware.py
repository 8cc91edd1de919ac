"""Describe the machine of an estimate: this one, or one that is named."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

import torch

from lep.distributed import get_world_size
from lep.errors import UsageError
from lep.modeling.device_specs import DEVICE_SPECS, find_device_spec, get_peak_flops
from lep.modeling.loading import get_device

DEVICES_PER_NODE = 8
"""More devices are on several nodes."""

_NAME_PATTERN = re.compile(r"(?:(\d+)x)?(.+)")
_CPU_MEMORY_BANDWIDTH, _GPU_MEMORY_BANDWIDTH = 1e10, 5e11
"""Bytes per second of a busy CPU, and of an accelerator that is not in `DEVICE_SPECS`."""


@dataclass(frozen=True)
class Machine:
    """Devices with one process on each."""

    name: str
    device_count: int
    has_accelerator: bool
    peak_flops: float
    """Half-precision FLOPs per second of one device."""
    memory_bandwidth: float
    """Bytes per second that a device reads from its memory."""
    memory_bytes: float
    """Memory of a device; without an accelerator, of the machine."""


def detect_machine() -> Machine:
    """Describe this machine as torch sees it; the speed of a CPU is measured."""
    device = get_device()
    peak_flops = get_peak_flops(device, torch.bfloat16)
    if device.type == "cpu":
        memory = float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
        return Machine("this machine", get_world_size(), False, peak_flops, _CPU_MEMORY_BANDWIDTH, memory)
    gpu = torch.cuda.get_device_properties(device)
    spec = find_device_spec(gpu.name)
    bandwidth = spec.memory_bandwidth if spec else _GPU_MEMORY_BANDWIDTH
    return Machine(gpu.name, get_world_size(), True, peak_flops, bandwidth, float(gpu.total_memory))


def parse_machine(name: str) -> Machine:
    """Describe a machine by name: `H100`, or `8xH100` for several devices.

    Args:
        name: A name in `DEVICE_SPECS`, with an optional number.

    Returns:
        The machine.

    Raises:
        UsageError: The device is not known, or there are none of them.

    Examples:
        >>> parse_machine("8xH100").device_count
        8
    """
    match = _NAME_PATTERN.fullmatch(name)
    spec = DEVICE_SPECS.get(match[2]) if match else None
    if not match or not spec or match[1] == "0":
        raise UsageError(f"{name}: unknown machine; use one of {', '.join(DEVICE_SPECS)}, or several as 8xH100")
    count = int(match[1] or 1)
    return Machine(name, count, True, spec.peak_flops, spec.memory_bandwidth, float(spec.memory_gib * 2**30))
