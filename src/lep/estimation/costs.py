"""Estimate time, memory and disk space: counted operations and bytes over measured rates.

`python benchmarks/estimates.py` compares these formulas with measurements.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from lep.core.embedding_matrix import BLOCK_ELEMENTS
from lep.estimation.hardware import DEVICES_PER_NODE, Machine
from lep.modeling.chunked_cross_entropy import GPU_LOGITS_CHUNK_BYTES, GPU_SOFTMAX_CHUNK_BYTES, LOGITS_CHUNK_BYTES
from lep.modeling.device_specs import get_peak_flops

_STARTUP_SECONDS = 6.0
"""To load libraries and to compare a rendered conversation."""
_SECONDS_PER_TOKEN = 4e-5
"""To read a token of a vocabulary and to segment it."""
_FILE_BYTES_PER_SECOND = 2e9
"""For reading, hashing and writing files."""
_LIBRARY_BYTES, _BYTES_PER_TOKEN = 0.7e9, 1.2e3
"""Memory of the libraries, and of a token of a vocabulary."""
_TRAINING_LIBRARY_BYTES = 1.3e9
"""Memory of the libraries for training."""

PRETRAINING_MFU, FINETUNING_MFU = {False: 0.44, True: 0.33}, {False: 0.15, True: 0.15}
"""Model FLOPs utilization of training on a CPU (False) and on an accelerator (True).

Measured in the demo on a CPU, and with the 1B model of benchmarks/pretraining.py on an H100 (its 8B: 0.41);
fine-tuning on an accelerator was never measured.
"""
INFERENCE_MFU = 0.3
"""Model FLOPs utilization of prefill, and of generation in large batches."""
_SECONDS_PER_LAYER = 1e-3
"""Least time of a layer for one decoding step."""
_TRAINABLE_STATE_BYTES = 4 + 4 + 8
"""Memory of a trained parameter: float32 value, gradient, AdamW's two moments."""
_CHECKPOINT_STATE_BYTES = 4 + 8
"""Disk space of a trained parameter in a checkpoint; the last and the best checkpoint are kept."""
_HUB_SHARD_BYTES = 5e9
"""Size of a weight file on the hub; files without an embedding matrix become hard links."""


@dataclass(frozen=True)
class ParameterCounts:
    """Parameter counts of a model by how they are trained."""

    frozen: int
    """Frozen parameters of layers."""
    trainable: int
    """Trained parameters of layers, or of their adapters."""
    embedding: int
    """Parameters of one embedding matrix."""
    num_embedding_matrices: int
    """1 if the embedding matrices are tied, else 2."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.frozen + self.trainable + self.num_embedding_matrices * self.embedding


@dataclass(frozen=True)
class StageCost:
    """Expected cost of a stage, within a factor of two."""

    seconds: float
    memory_bytes: float
    """Memory of a machine, for all its processes together."""
    bytes_written: int
    """Disk space of the result."""
    scratch_bytes: int = 0
    """Disk space that is freed at the end."""
    device_memory_bytes: float = 0.0
    """Memory of each accelerator."""
    device_count: int = 0
    """Accelerators in use."""
    tokens: int = 0
    """Tokens that are trained on or evaluated."""
    assumptions: tuple[str, ...] = ()
    """Unknown quantities and the values that were assumed, one sentence each."""

    def __str__(self) -> str:
        memory, written = self.memory_bytes / 2**30, self.bytes_written / 1e9
        return f"about {format_duration(self.seconds)} and {memory:.1f} GiB of memory; {written:.2f} GB to write"


def format_duration(seconds: float) -> str:
    """Format a duration as `40 s`, `12 min`, `7.5 h` or `4.2 days`."""
    for size, unit, digits in ((86400.0, "days", 1), (3600.0, "h", 1), (60.0, "min", 0)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def estimate_propagation_cost(
    *,
    vocab_size: int,
    dim: int,
    num_embedding_matrices: int,
    fitted_method_count: int,
    tokens: int,
    input_bytes: int,
    output_bytes: int,
    device: str,
) -> StageCost:
    """Estimate a propagation: fit projections, apply them and write the model.

    Args:
        vocab_size: Rows of an embedding matrix; a fit is counted as if it used all of them.
        dim: Columns of an embedding matrix.
        num_embedding_matrices: 1 if the embedding matrices are tied, else 2.
        fitted_method_count: Methods that are fitted for each matrix.
        tokens: Tokens of the three vocabularies together.
        input_bytes: Size of the input files, which are hashed first.
        output_bytes: Size of the files that are written.
        device: Device of the fit, such as `cuda`; its speed is measured.

    Returns:
        The cost.
    """
    products = vocab_size * dim**2
    fit = num_embedding_matrices * fitted_method_count * (3.4 * products + 8 * dim**3)
    seconds = fit / _get_peak_flops(device, torch.float64)
    seconds += num_embedding_matrices * 2 * products / _get_peak_flops(device, torch.float32)
    file_bytes = input_bytes + output_bytes + 2 * output_bytes * fitted_method_count
    seconds += _STARTUP_SECONDS + tokens * _SECONDS_PER_TOKEN + file_bytes / _FILE_BYTES_PER_SECOND
    memory = (
        _LIBRARY_BYTES
        + tokens * _BYTES_PER_TOKEN
        + 8 * dim**2 * (5 + 2 * num_embedding_matrices * fitted_method_count)
        + 8 * min(BLOCK_ELEMENTS, vocab_size * dim) * 6
    )
    return StageCost(seconds, memory, output_bytes)


def estimate_initialization_cost(*, tokens: int, output_bytes: int) -> StageCost:
    """Estimate an initialization: map two vocabularies with `tokens` tokens together, and write `output_bytes`."""
    seconds = tokens * _SECONDS_PER_TOKEN + 2 * output_bytes / _FILE_BYTES_PER_SECOND
    return StageCost(seconds, _LIBRARY_BYTES + tokens * _BYTES_PER_TOKEN, output_bytes)


@dataclass(frozen=True)
class TrainingWorkload:
    """What the cost of a training depends on, apart from the model's size."""

    tokens: int
    flops_per_token: float
    activation_bytes: int
    """Memory that a forward pass keeps for the backward pass."""
    trainable_embedding_count: float
    """Trained embedding matrices; a fraction if only some rows are trained."""
    mfu: float
    """Model FLOPs utilization."""
    sharded: bool
    """The model is divided among the devices (FSDP)."""
    dataset_bytes: int = 0
    """Disk space of the tokenized data."""


def estimate_training_cost(
    parameters: ParameterCounts, workload: TrainingWorkload, *, machine: Machine, itemsize: int, output_bytes: int
) -> StageCost:
    """Estimate a training with one process on each device of the machine.

    Args:
        parameters: Parameter counts of the model.
        workload: Tokens, FLOPs and memory of the training.
        machine: The machine, or all nodes together.
        itemsize: Bytes of a frozen parameter.
        output_bytes: Size of the files that are written.

    Returns:
        The cost.
    """
    trainable = round(parameters.trainable + workload.trainable_embedding_count * parameters.embedding)
    process_bytes = _estimate_process_bytes(
        parameters, workload, trainable=trainable, machine=machine, itemsize=itemsize
    )
    processes = min(machine.device_count, DEVICES_PER_NODE)
    loaded_bytes = processes * itemsize * parameters.total  # each process loads the model before it moves to a device
    flops = machine.device_count * machine.peak_flops * workload.mfu
    return StageCost(
        seconds=workload.tokens * workload.flops_per_token / flops,
        memory_bytes=processes * _TRAINING_LIBRARY_BYTES + (loaded_bytes if machine.has_accelerator else process_bytes),
        bytes_written=output_bytes,
        scratch_bytes=2 * _CHECKPOINT_STATE_BYTES * trainable + workload.dataset_bytes,
        device_memory_bytes=process_bytes if machine.has_accelerator else 0.0,
        device_count=machine.device_count if machine.has_accelerator else 0,
        tokens=workload.tokens,
    )


def _estimate_process_bytes(
    parameters: ParameterCounts, workload: TrainingWorkload, *, trainable: int, machine: Machine, itemsize: int
) -> float:
    """Estimate the peak memory of a process, which it reaches between the loss and the backward pass."""
    shard_fraction = 1 / machine.device_count if workload.sharded else 1.0
    state = compute_training_state_bytes(
        parameters,
        trainable_embedding_count=workload.trainable_embedding_count,
        itemsize=itemsize,
        shard_fraction=shard_fraction,
    )
    cast_layers = itemsize * parameters.trainable * shard_fraction
    gradient_buckets = 4.0 * trainable if machine.device_count > 1 and not workload.sharded else 0.0
    head_gradient = 4.0 * parameters.embedding * min(workload.trainable_embedding_count, 1.0)  # beside its sum
    logits = GPU_LOGITS_CHUNK_BYTES + 3 * GPU_SOFTMAX_CHUNK_BYTES if machine.has_accelerator else LOGITS_CHUNK_BYTES
    return state + cast_layers + gradient_buckets + head_gradient + logits + workload.activation_bytes


def compute_training_state_bytes(
    parameters: ParameterCounts, *, trainable_embedding_count: float, itemsize: int, shard_fraction: float
) -> float:
    """Compute the memory of a model in training: weights, gradients and AdamW's moments.

    Args:
        parameters: Parameter counts of the model.
        trainable_embedding_count: Trained embedding matrices.
        itemsize: Bytes of a frozen parameter, and of the embeddings that the layers compute with.
        shard_fraction: Fraction of sharded tensors on one device; trained rows are whole during a forward pass.

    Returns:
        The number of bytes.
    """
    layers = (itemsize * parameters.frozen + _TRAINABLE_STATE_BYTES * parameters.trainable) * shard_fraction
    row_state = 4 + (_TRAINABLE_STATE_BYTES - 4) * shard_fraction
    rows = trainable_embedding_count * parameters.embedding * row_state
    return layers + rows + itemsize * parameters.num_embedding_matrices * parameters.embedding


def estimate_decode_seconds(
    parameters: ParameterCounts, *, layer_count: int, steps: int, batch_size: int, machine: Machine, itemsize: int
) -> float:
    """Estimate the time of generation on one device, where each step reads all weights.

    Args:
        parameters: Parameter counts of the model.
        layer_count: Number of decoder layers.
        steps: Decoding steps.
        batch_size: Sequences that are generated at once.
        machine: The machine.
        itemsize: Bytes of a parameter.

    Returns:
        Seconds.
    """
    read_seconds = itemsize * parameters.total / machine.memory_bandwidth
    compute_seconds = 2.0 * parameters.total * batch_size / (machine.peak_flops * INFERENCE_MFU)
    return steps * (max(read_seconds, compute_seconds) + layer_count * _SECONDS_PER_LAYER)


def estimate_prefill_seconds(parameters: ParameterCounts, *, tokens: int, machine: Machine) -> float:
    """Estimate the time of a forward pass on one device.

    Args:
        parameters: Parameter counts of the model.
        tokens: Tokens of the texts.
        machine: The machine.

    Returns:
        Seconds.
    """
    return 2.0 * parameters.total * tokens / (machine.peak_flops * INFERENCE_MFU)


def compute_rewritten_bytes(parameters: ParameterCounts, *, itemsize: int, include_layers: bool) -> int:
    """Compute an upper bound of the disk space of a model with new embedding matrices.

    Args:
        parameters: Parameter counts of the model.
        itemsize: Bytes of a parameter.
        include_layers: Layers are new as well; else weight files without an embedding matrix become hard links.

    Returns:
        The number of bytes.
    """
    all_bytes = itemsize * parameters.total
    embedding_bytes = itemsize * parameters.num_embedding_matrices * parameters.embedding
    return round(
        all_bytes
        if include_layers
        else min(all_bytes, embedding_bytes + parameters.num_embedding_matrices * _HUB_SHARD_BYTES)
    )


@cache
def _get_peak_flops(device: str, dtype: torch.dtype) -> float:
    return get_peak_flops(torch.device(device), dtype)
