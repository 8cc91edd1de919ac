"""Peak FLOPs, memory and bandwidth of accelerators."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class DeviceSpec:
    """Data sheet of an accelerator."""

    peak_flops: float
    """Per second, of dense half-precision matrix products."""
    memory_bandwidth: float
    """Bytes per second."""
    memory_gib: int
    """Memory; of the largest variant, if there are several."""


DEVICE_SPECS = {
    "B200": DeviceSpec(2250e12, 8.0e12, 180),
    "H200": DeviceSpec(989e12, 4.8e12, 141),
    "H100 PCIe": DeviceSpec(756e12, 2.0e12, 80),
    "H100": DeviceSpec(989e12, 3.35e12, 80),
    "A100": DeviceSpec(312e12, 2.0e12, 80),
    "A10G": DeviceSpec(70e12, 0.6e12, 24),
    "L40S": DeviceSpec(362e12, 0.86e12, 48),
    "L4": DeviceSpec(121e12, 0.3e12, 24),
    "RTX 4090": DeviceSpec(165e12, 1.0e12, 24),
    "RTX 3090": DeviceSpec(71e12, 0.94e12, 24),
    "V100": DeviceSpec(125e12, 0.9e12, 32),
    "T4": DeviceSpec(65e12, 0.32e12, 16),
}
"""By a part of the device name in torch; a name that contains another one comes first."""


def find_device_spec(name: str) -> DeviceSpec | None:
    """Return the data sheet of a device, by its name in torch; `None` if it is not known."""
    return next((spec for part, spec in DEVICE_SPECS.items() if part in name), None)


def get_peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """Return FLOPs per second of dense matrix products: of the data sheet if there is one, else the best of 3 runs."""
    if device.type == "cuda" and dtype in (torch.bfloat16, torch.float16):
        spec = find_device_spec(torch.cuda.get_device_name(device))
        if spec:
            return spec.peak_flops
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.ones(size, size, dtype=dtype, device=device)

    def multiply() -> None:
        matrix.mm(matrix)[0, 0].item()

    return 2 * size**3 / _measure_best_seconds(multiply)


def _measure_best_seconds(function: Callable[[], object]) -> float:
    """Return the time of the fastest of three runs."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
