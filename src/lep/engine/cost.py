"""What propagation will take on this machine: counted operations over rates that are measured on the spot."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from lep.core.rows import BLOCK
from lep.engine.peak import peak_operations_per_second

_STARTING = 6.0
"""Seconds until libraries are loaded and a conversation is rendered."""
_TOKEN_SECONDS = 4e-5
"""To read a token of a vocabulary and find its pieces."""
_BYTES_PER_SECOND = 2e9
"""Of reading, hashing and writing files."""
_LIBRARIES, _TOKEN_BYTES = 0.7e9, 1.2e3
"""Memory of the libraries, and of a token."""


@dataclass(frozen=True)
class Cost:
    """Expected, within a factor of two."""

    seconds: float
    memory_bytes: float
    bytes_written: int

    def __str__(self) -> str:
        minutes = f"{self.seconds / 60:.0f} min" if self.seconds >= 90 else f"{self.seconds:.0f} s"
        memory, written = self.memory_bytes / 2**30, self.bytes_written / 1e9
        return f"about {minutes} and {memory:.1f} GiB of memory; {written:.2f} GB to write"


def propagation_cost(
    *, rows: int, dim: int, tables: int, fits: int, tokens: int, hashed: int, written: int, device: str
) -> Cost:
    """Count what the fit and the product of one propagation do.

    Args:
        rows: of a table; a fit is counted as if it saw all of them.
        tables: 1 when tied, else 2.
        fits: methods that are fitted to each table.
        tokens: of the three vocabularies.
        hashed: bytes of the inputs' files, which are hashed first.
        written: bytes of the result's files.
    """
    products = rows * dim**2
    fit = tables * fits * (3.4 * products + 8 * dim**3)
    rates = {dtype: peak_operations_per_second(torch.device(device), dtype) for dtype in (torch.float64, torch.float32)}
    seconds = fit / rates[torch.float64] + tables * 2 * products / rates[torch.float32]
    seconds += _STARTING + tokens * _TOKEN_SECONDS + (hashed + written + 2 * written * fits) / _BYTES_PER_SECOND
    memory = _LIBRARIES + tokens * _TOKEN_BYTES + 8 * dim**2 * (5 + 2 * tables * fits) + 8 * min(BLOCK, rows * dim) * 6
    return Cost(seconds, memory, written)
