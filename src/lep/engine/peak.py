"""How many operations a second this machine can do."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "L40S": 362e12,
    "L4": 121e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "V100": 125e12,
    "T4": 65e12,
}
"""Operations a second of dense half-precision products, as the vendor says, by a part of the device's name."""


def peak_operations_per_second(device: torch.device, dtype: torch.dtype) -> float:
    """Of dense products: what the vendor says, of half precision on a known device; else the best of three tries."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        name = torch.cuda.get_device_name(device)
        for part, operations in PEAKS.items():
            if part in name:
                return operations
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
