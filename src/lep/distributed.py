"""Several processes of one run: who this one is, and how the others wait for the main one.

A launcher (torchrun, accelerate, torchrun under Slurm) starts the same command several times and says in the
environment which is which. What one process must do alone is done by the main one, number 0; the others wait at the
launcher's store of keys, where nothing runs out of time, not in a collective operation, where it would.
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

_LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_ENGINES = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_FSDP": "accelerate's FSDP",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
}
_PAUSE = 0.2
"""Seconds between two looks at the store."""

_MAIN_FIRST = 5
"""Seconds that another process waits before it tells an error."""

_words = count()
"""Numbers of what the main process tells: all processes count alike."""

T = TypeVar("T")


def world() -> int:
    """How many processes there are."""
    return int(os.environ["WORLD_SIZE"]) if all(name in os.environ for name in _LAUNCHED[:3]) else 1


def rank() -> int:
    """The number of this process, from 0."""
    return int(os.environ["RANK"]) if world() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that prints and writes."""
    return rank() == 0


def join() -> None:
    """Meet the other processes: after this, torch's collective operations work. Before any tensor is on a device.

    Raises:
        UsageError: the launcher is to have the model divided by an engine that does not know of tables.
    """
    for name, engine in _ENGINES.items():
        if os.environ.get(name, "").lower() == "true":
            raise UsageError(
                f"{engine} was chosen in accelerate's configuration ({name}); choose distributed_type MULTI_GPU there "
                "and give pretrain.parallel=fsdp2: lep divides the model itself"
            )
    if world() > 1:
        _store()


def tell(value: object) -> None:
    """Give a value to the other processes; for the main one alone. Each `tell` answers one `hear`."""
    if world() > 1:
        _store().set(f"word/{next(_words)}", pickle.dumps(value))  # pyright: ignore[reportArgumentType]  bytes, too


def hear() -> Any:
    """What the main process tells next, however long it takes; for the others alone."""
    key = f"word/{next(_words)}"
    _await(key)
    return pickle.loads(_store().get(key))


def by_main(work: Callable[[], T]) -> T:
    """What `work` returns when the main process does it alone, while the others wait.

    Inside, the other processes are out of sight: nothing that trains or generates looks for them. An error ends the
    main process, and thereby all: the launcher ends the others.
    """
    if world() == 1:
        return work()
    if not is_main():
        return hear()
    with _alone():
        value = work()
    tell(value)
    return value


def agreed(value: T) -> T:
    """The main process's value, in every process: all have one, and it could differ."""
    if not is_main():
        return hear()
    tell(value)
    return value


def micro_batches(*, batch_size: int, micro_batch_size: int, processes: int | None = None) -> int:
    """Forward passes of each process in an optimizer step; none: of as many processes as there are.

    Raises:
        UsageError: the samples of a step are not so many passes of all processes.
    """
    count = processes or world()
    passes, rest = divmod(batch_size, micro_batch_size * count)
    if rest:
        raise UsageError(
            f"micro_batch_size {micro_batch_size} × {count} process{'es' if count > 1 else ''} does not "
            f"divide batch_size {batch_size}; change one of the three"
        )
    return passes


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process be the one that says what went wrong.

    An error elsewhere comes out later: most often the main process has the same, or is what is missed here, and then
    the launcher ends this process before it speaks.
    """
    try:
        yield
    except BaseException:
        if not is_main():
            time.sleep(_MAIN_FIRST)
        raise


def give_up(code: int) -> int:
    """End with an exit code; where there are others at once, since what is left of a group cannot be taken down."""
    if world() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def leave() -> None:
    """Part from the other processes when all is done: the main one last, since it may keep the store."""
    if world() == 1 or not _store.cache_info().currsize:
        return
    from torch import distributed

    if is_main():
        for number in range(1, world()):
            _await(f"left/{number}")
    else:
        _store().set(f"left/{rank()}", "")
    distributed.destroy_process_group()


@cache
def _store() -> Store:
    import torch
    from torch import distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    backend, own_device, devices = "gloo", int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if devices:
        if own_device >= devices:
            raise UsageError(f"process {own_device} of this node has no GPU: torch sees {devices}; start one a GPU")
        torch.cuda.set_device(own_device)
        backend = "cpu:gloo,cuda:nccl"
    store, own, all_ = next(rendezvous("env://"))  # the launcher's, or one that the main process keeps
    group = PrefixStore("torch", store)
    distributed.init_process_group(backend, store=group, rank=own, world_size=all_)
    return PrefixStore("lep", store)


def _await(key: str) -> None:
    """Looks again and again: a wait inside the store could be neither interrupted nor without end."""
    while not _store().check([key]):
        time.sleep(_PAUSE)


@contextmanager
def _alone() -> Iterator[None]:
    kept = {name: os.environ.pop(name) for name in _LAUNCHED if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(kept)
