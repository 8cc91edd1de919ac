"""Distributed runs: the rank of this process, and work that only the main process does while the others wait.

A launcher (torchrun, accelerate, torchrun under Slurm) starts the same command several times and sets each process's
rank in the environment. The main process is rank 0. The others wait for it at the launcher's key-value store, which has
no timeout, and not in a collective operation, which has one.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar

from lep.errors import UsageError

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

_LAUNCHER_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_UNSUPPORTED_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_POLL_SECONDS = 0.2
"""Interval at which the store is polled."""

_WORKER_ERROR_DELAY = 5
"""Seconds that a process other than the main one waits before it reports an error."""

_message_numbers = count()
"""Numbers of the messages of the main process; all processes count alike."""

T = TypeVar("T")


def get_world_size() -> int:
    """Return the number of processes."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _LAUNCHER_VARIABLES[:3]) else 1


def get_rank() -> int:
    """Return the rank of this process, from 0."""
    return int(os.environ["RANK"]) if get_world_size() > 1 else 0


def is_main_process() -> bool:
    """Return whether this is the process that prints and writes."""
    return get_rank() == 0


def init_process_group() -> None:
    """Initialize torch's process group, if there are several processes; call it before any tensor is on a device.

    Raises:
        UsageError: accelerate is configured to shard the model with an engine that lep does not support.
    """
    for name, engine in _UNSUPPORTED_ENGINES.items():
        if os.environ.get(name, "").lower() == "true":
            raise UsageError(
                f"{engine} was chosen in accelerate's configuration ({name}); choose distributed_type MULTI_GPU there "
                "and give pretrain.parallel=fsdp2: lep shards the model itself"
            )
    if get_world_size() > 1:
        _get_store()


def broadcast(value: object) -> None:
    """Send a value from the main process to the others; each call is answered by one `receive` in each of them."""
    if get_world_size() > 1:
        _get_store().set(f"message/{next(_message_numbers)}", pickle.dumps(value))  # pyright: ignore[reportArgumentType]


def receive() -> Any:
    """Return the next value that the main process sends, however long it takes; for the other processes."""
    key = f"message/{next(_message_numbers)}"
    _wait_for_key(key)
    return pickle.loads(_get_store().get(key))


def run_on_main(function: Callable[[], T]) -> T:
    """Call a function in the main process only, while the others wait.

    During the call the launcher's variables are hidden, so that libraries do not look for the other processes. An error
    ends the main process, and the launcher then ends the others.

    Args:
        function: What to call.

    Returns:
        Its result, in every process.
    """
    if get_world_size() == 1:
        return function()
    if not is_main_process():
        return receive()
    with _hide_launcher_environment():
        value = function()
    broadcast(value)
    return value


def broadcast_from_main(value: T) -> T:
    """Replace each process's own value, which could differ slightly, by that of the main process."""
    if not is_main_process():
        return receive()
    broadcast(value)
    return value


def gradient_accumulation_steps(*, batch_size: int, micro_batch_size: int, world_size: int | None = None) -> int:
    """Compute the number of forward passes of each process in an optimizer step.

    Args:
        batch_size: Samples per optimizer step, over all processes.
        micro_batch_size: Samples per forward pass of one process.
        world_size: Number of processes; `None`: those of this run.

    Returns:
        The number of forward passes.

    Raises:
        UsageError: `micro_batch_size` times the number of processes does not divide `batch_size`.
    """
    processes = world_size or get_world_size()
    steps, remainder = divmod(batch_size, micro_batch_size * processes)
    if remainder:
        raise UsageError(
            f"micro_batch_size {micro_batch_size} × {processes} process{'es' if processes > 1 else ''} does not "
            f"divide batch_size {batch_size}; change one of the three"
        )
    return steps


@contextmanager
def delay_worker_errors() -> Iterator[None]:
    """Delay errors of all processes but the main one, so that the main process reports first.

    Most often the main process has the same error, or its end is the cause of this one. The launcher then ends this
    process before it prints.
    """
    try:
        yield
    except BaseException:
        if not is_main_process():
            time.sleep(_WORKER_ERROR_DELAY)
        raise


def abort(exit_code: int) -> int:
    """Return the exit code or, in a distributed run, exit at once: a broken process group cannot be shut down."""
    if get_world_size() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code


def shutdown() -> None:
    """Destroy the process group after all work; the main process leaves last, since it may host the store."""
    if get_world_size() == 1 or not _get_store.cache_info().currsize:
        return
    from torch import distributed

    if is_main_process():
        for number in range(1, get_world_size()):
            _wait_for_key(f"finished/{number}")
    else:
        _get_store().set(f"finished/{get_rank()}", "")
    distributed.destroy_process_group()


@cache
def _get_store() -> Store:
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend, local_rank, device_count = "gloo", int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if device_count:
        if local_rank >= device_count:
            raise UsageError(
                f"process {local_rank} of this node has no GPU: torch sees {device_count}; start one process per GPU"
            )
        torch.cuda.set_device(local_rank)
        backend = "cpu:gloo,cuda:nccl"
    store, rank, world_size = next(rendezvous("env://"))  # the launcher's store, or one that the main process hosts
    distributed.init_process_group(backend, store=PrefixStore("torch", store), rank=rank, world_size=world_size)
    return PrefixStore("lep", store)


def _wait_for_key(key: str) -> None:
    """Poll the store: its own wait can be neither interrupted nor unlimited."""
    while not _get_store().check([key]):
        time.sleep(_POLL_SECONDS)


@contextmanager
def _hide_launcher_environment() -> Iterator[None]:
    hidden = {name: os.environ.pop(name) for name in _LAUNCHER_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(hidden)
