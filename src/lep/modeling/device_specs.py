"""How many operations a second this machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """What its vendor says of an accelerator."""

    operations: float
    """A second, of dense half-precision products."""
    bandwidth: float
    """Bytes a second from its memory."""
    gib: int
    """Memory; the largest where there are several."""


DEVICES = {
    "B200": Device(2250e12, 8.0e12, 180),
    "H200": Device(989e12, 4.8e12, 141),
    "H100 PCIe": Device(756e12, 2.0e12, 80),
    "H100": Device(989e12, 3.35e12, 80),
    "A100": Device(312e12, 2.0e12, 80),
    "A10G": Device(70e12, 0.6e12, 24),
    "L40S": Device(362e12, 0.86e12, 48),
    "L4": Device(121e12, 0.3e12, 24),
    "RTX 4090": Device(165e12, 1.0e12, 24),
    "RTX 3090": Device(71e12, 0.94e12, 24),
    "V100": Device(125e12, 0.9e12, 32),
    "T4": Device(65e12, 0.32e12, 16),
}
"""By a part of the name that torch gives the device; where one name is in another, the longer stands first."""


def known_device(name: str) -> Device | None:
    """What its vendor says of a device, by the name that torch gives it."""
    return next((known for part, known in DEVICES.items() if part in name), None)


def peak_operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Of dense products: what the vendor says, of half precision on a known device; else the best of three tries."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        known = known_device(torch.cuda.get_device_name(device))
        if known:
            return known.operations
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.ones(size, size, dtype=dtype, device=device)

    def multiply() -> None:
        matrix.mm(matrix)[0, 0].item()

    return 2 * size**3 / _quickest(multiply)


def _quickest(work: Callable[[], object]) -> float:
    """Seconds of the best of three tries."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
