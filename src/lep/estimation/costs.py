"""What work will take: counted operations and bytes, over rates that are measured on the spot or were measured before.

`python benchmarks/estimates.py` puts these formulas beside what was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from lep.core.table_rows import BLOCK
from lep.estimation.hardware import NODE, Machine
from lep.modeling.chunked_cross_entropy import GPU_CACHE_BYTES, GPU_LOGITS_BYTES, LOGITS_BYTES
from lep.modeling.device_specs import peak_operations_per_second

_STARTING = 6.0
"""Seconds until libraries are loaded and a conversation is rendered."""
_TOKEN_SECONDS = 4e-5
"""To read a token of a vocabulary and find its pieces."""
_BYTES_PER_SECOND = 2e9
"""Of reading, hashing and writing files."""
_LIBRARIES, _TOKEN_BYTES = 0.7e9, 1.2e3
"""Memory of the libraries, and of a token."""
_TRAINERS = 1.3e9
"""Memory of the libraries that train."""

PRETRAINING_USED, TUNING_USED = {False: 0.44, True: 0.33}, {False: 0.15, True: 0.15}
"""Of the operations that a processor (False) or an accelerator (True) could do, those that training needs.

As in the demo's rooms on a processor, and as the 1B of benchmarks/pretraining.py on an H100 (its 8B: 0.41); tuning
on an accelerator was never measured.
"""
READING_USED = 0.3
"""The same of reading text, and of the products of generation."""
_LAYER_SECONDS = 1e-3
"""That a layer takes for one token even when there is next to nothing to compute."""
_STATE = 4 + 4 + 8
"""Bytes of a number that learns: itself in float32, its gradient, AdamW's two moments."""
_CHECKPOINT = 4 + 8
"""Bytes of a number that learns, in a checkpoint; two are kept, the last and the best."""
_HUB_FILE = 5e9
"""Bytes of a weight file on the hub: those without a table become hard links."""


@dataclass(frozen=True)
class Weights:
    """Numbers of a model, by what becomes of them in a training."""

    frozen: int
    """In layers."""
    learning: int
    """In layers, or in adapters."""
    table: int
    """In one table."""
    tables: int
    """1 when tied, else 2."""

    @property
    def all(self) -> int:
        """All numbers."""
        return self.frozen + self.learning + self.tables * self.table


@dataclass(frozen=True)
class Cost:
    """Expected, within a factor of two."""

    seconds: float
    memory_bytes: float
    """Of the machine, for all its processes together; of each, where there are several."""
    bytes_written: int
    """That stay."""
    scratch_bytes: int = 0
    """Written as well, and taken away at the end."""
    device_bytes: float = 0.0
    """Of each accelerator."""
    devices: int = 0
    """Accelerators that are busy meanwhile."""
    tokens: int = 0
    """That are trained on, or read."""
    assumes: tuple[str, ...] = ()
    """What had to be guessed, each in one sentence."""

    def __str__(self) -> str:
        memory, written = self.memory_bytes / 2**30, self.bytes_written / 1e9
        return f"about {in_words(self.seconds)} and {memory:.1f} GiB of memory; {written:.2f} GB to write"


def in_words(seconds: float) -> str:
    """`40 s`, `12 min`, `7.5 h`, `4.2 days`."""
    for size, unit, digits in ((86400.0, "days", 1), (3600.0, "h", 1), (60.0, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


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
    seconds = fit / _rate(device, torch.float64) + tables * 2 * products / _rate(device, torch.float32)
    seconds += _STARTING + tokens * _TOKEN_SECONDS + (hashed + written + 2 * written * fits) / _BYTES_PER_SECOND
    memory = _LIBRARIES + tokens * _TOKEN_BYTES + 8 * dim**2 * (5 + 2 * tables * fits) + 8 * min(BLOCK, rows * dim) * 6
    return Cost(seconds, memory, written)


def initialization_cost(*, tokens: int, written: int) -> Cost:
    """Map two vocabularies of `tokens` tokens together, and write a model of `written` bytes."""
    seconds = tokens * _TOKEN_SECONDS + 2 * written / _BYTES_PER_SECOND
    return Cost(seconds, _LIBRARIES + tokens * _TOKEN_BYTES, written)


@dataclass(frozen=True)
class Training:
    """A training, as far as its cost depends on it."""

    tokens: int
    operations: float
    """Of a token."""
    kept: int
    """Bytes that a pass keeps for the way back."""
    tables: float
    """So many tables learn."""
    used: float
    """Of the operations that the machine could do."""
    sharded: bool
    samples_bytes: int = 0
    """On disk."""


def training_cost(weights: Weights, training: Training, *, machine: Machine, itemsize: int, written: int) -> Cost:
    """Count what a training holds and does; one process on each device of the machine.

    Args:
        weights: the model's numbers.
        training: what is done.
        machine: where.
        itemsize: bytes of a frozen number.
        written: bytes of the result's files.
    """
    learning = round(weights.learning + training.tables * weights.table)
    held = _held(weights, training, learning=learning, machine=machine, itemsize=itemsize)
    processes = min(machine.devices, NODE)
    loaded = processes * itemsize * weights.all  # each loads the model before its device gets it
    rate = machine.devices * machine.operations * training.used
    return Cost(
        seconds=training.tokens * training.operations / rate,
        memory_bytes=processes * _TRAINERS + (loaded if machine.accelerated else held),
        bytes_written=written,
        scratch_bytes=2 * _CHECKPOINT * learning + training.samples_bytes,
        device_bytes=held if machine.accelerated else 0.0,
        devices=machine.devices if machine.accelerated else 0,
        tokens=training.tokens,
    )


def _held(weights: Weights, training: Training, *, learning: int, machine: Machine, itemsize: int) -> float:
    """Bytes that each process holds when it holds the most: when the loss is found and the way back begins."""
    several = machine.devices > 1
    share = 1 / machine.devices if training.sharded else 1.0
    sent = 4.0 * learning if several and not training.sharded else 0.0  # what processes send each other
    again = 4.0 * weights.table * min(training.tables, 1.0)  # the head's gradient of this pass, beside the sum
    logits = GPU_LOGITS_BYTES + 3 * GPU_CACHE_BYTES if machine.accelerated else LOGITS_BYTES
    state = state_bytes(weights, tables=training.tables, itemsize=itemsize, share=share)
    cast = itemsize * weights.learning * share  # layers that learn, as they compute
    return state + cast + sent + again + logits + training.kept


def state_bytes(weights: Weights, *, tables: float, itemsize: int, share: float) -> float:
    """Bytes of a model that learns, of its gradients and of AdamW's moments.

    Args:
        weights: its numbers.
        tables: so many tables learn, whole.
        itemsize: bytes of a frozen number, and of the tables as layers compute with them.
        share: of what is divided among processes, that of one; rows that learn are whole while a pass is under way.
    """
    layers = (itemsize * weights.frozen + _STATE * weights.learning) * share
    rows = tables * weights.table * (4 + (_STATE - 4) * share)
    return layers + rows + itemsize * weights.tables * weights.table


def writing_seconds(weights: Weights, *, layers: int, steps: int, batch: int, machine: Machine, itemsize: int) -> float:
    """Of generating one token after the other, `batch` texts at once, on one device: all weights are read each time."""
    read = itemsize * weights.all / machine.bandwidth
    multiplied = 2.0 * weights.all * batch / (machine.operations * READING_USED)
    return steps * (max(read, multiplied) + layers * _LAYER_SECONDS)


def reading_seconds(weights: Weights, *, tokens: int, machine: Machine) -> float:
    """Of one pass forward over so many tokens, on one device."""
    return 2.0 * weights.all * tokens / (machine.operations * READING_USED)


def rewritten_bytes(weights: Weights, *, itemsize: int, layers: bool) -> int:
    """Bytes of a model that is written with other tables, at the most.

    Args:
        weights: its numbers.
        itemsize: bytes of each.
        layers: whether layers are new as well; else a file of the hub's size without a table is a hard link.
    """
    whole, tables = itemsize * weights.all, itemsize * weights.tables * weights.table
    return round(whole if layers else min(whole, tables + weights.tables * _HUB_FILE))


@cache
def _rate(device: str, dtype: torch.dtype) -> float:
    return peak_operations_per_second(torch.device(device), dtype)
