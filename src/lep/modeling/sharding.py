"""FSDP2: a model's parameters, gradients and moments divided among all processes.

Sharded by torch, not by accelerate: accelerate's FSDP is silently DDP on a processor, and wraps only what a module's
own forward uses, while tables are used by others. What is divided, and why:

- Each decoder layer is a group: whole only while it computes. Frozen layers, too: they are most of the memory. Weights
  that learn, in float32, are sent and put together in the precision that they compute in: autocast alone would keep a
  copy of every layer in it until the backward pass.
- What learns outside of the layers (rows of tables, norms) is one more group, whole during a forward and a backward
  pass. Tables are used at both ends of the model, so they could not be let go in between; divided are their gradients
  and moments, three quarters of what they take, and each process updates its share of rows alone.
- Frozen rows and norms outside of the layers stay whole: rows are views of the tables that the layers compute with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import Trainer
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from lep.distributed import is_main, world
from lep.modeling.loading import device

M = TypeVar("M", bound=nn.Module)
T = TypeVar("T")

_OBSERVED = "_observed"
"""Name of the method by which `observe` is a forward pass to FSDP."""


def shard(model: nn.Module, *, layers: Iterable[nn.Module], dtype: torch.dtype) -> None:
    """Divide a model among all processes, in place; what learns must be decided, and no optimizer made yet.

    Args:
        model: the same in every process.
        layers: of its decoder.
        dtype: the layers compute in it, under autocast where they are kept in another.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(device().type, (world(),))
    inside: set[nn.Parameter] = set()
    groups: list[Any] = []
    for layer in layers:
        inside |= set(layer.parameters())
        groups.append(fully_shard(layer, mesh=mesh, mp_policy=policy))
    stays = {weight for weight in model.parameters() if not weight.requires_grad} - inside
    groups.append(fully_shard(model, mesh=mesh, ignored_params=stays))
    setattr(model, _OBSERVED, lambda work: work(model))
    register_fsdp_forward_method(model, _OBSERVED)
    for group in groups:  # the memory of whole parameters must not be made in inference mode, by a measurement
        group.unshard()
        group.reshard()


def observe(model: M, work: Callable[[M], T]) -> T:
    """What `work` finds in a model, any part of which it may use: tables are whole meanwhile, layers as they compute.

    In all processes at once.
    """
    if not isinstance(model, FSDPModule):
        return work(model)
    found = getattr(model, _OBSERVED)(work)
    model.reshard()  # as after a step: what the optimizer knows is in its place
    return found


def whole(tensor: Tensor) -> Tensor:
    """A divided tensor, put together on the processor in the main process; in the others only its shape (`meta`).

    All processes must ask for the same tensors in the same order. A tensor that is not divided comes back as it is.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    found = tensor.full_tensor()
    return found.cpu() if is_main() else found.to("meta")


def share(tensor: Tensor, *, like: Tensor) -> Tensor:
    """Of a whole tensor, which every process has, what this process keeps of it when it is divided as `like`."""
    if not isinstance(like, DTensor):
        return tensor
    placed = tensor.to(like.device, like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def gather(model: nn.Module) -> None:
    """Make what learnt whole, on the processor, to be read by the main process; the model computes no more.

    In the other processes only shapes are left. A model that is not divided stays as it is.
    """
    if not isinstance(model, FSDPModule):
        return
    place = "cpu" if is_main() else "meta"
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and (weight.requires_grad or not isinstance(weight, DTensor)):
                found = whole(weight.detach()).to(place)
                module._parameters[name] = nn.Parameter(found, requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(place)


def whole_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What `optimizer.state_dict()` would be if nothing were divided; as `whole` gives it."""
    given = optimizer.state_dict()
    return given | {"state": _each(given["state"], lambda number, value: whole(value))}


def take_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Take this process's share of what `whole_state` gave, or an optimizer of undivided parameters."""
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]

    def own(number: int, value: Tensor) -> Tensor:
        of_weight = value.shape == parameters[number].shape  # and not a count of steps
        return share(value, like=parameters[number]) if of_weight else value

    optimizer.load_state_dict({**state, "state": _each(state["state"], own)})


def _each(
    state: Mapping[int, Mapping[str, Tensor]], change: Callable[[int, Tensor], Tensor]
) -> dict[int, dict[str, Tensor]]:
    return {number: {name: change(number, value) for name, value in of.items()} for number, of in state.items()}


class ShardedTrainer(Trainer):
    """A Trainer that leaves a divided model as it is; its checkpoints are whole: any Trainer goes on from them.

    Of a model that transformers itself divided at loading, the Trainer knows that it must be neither wrapped nor saved
    by one process alone; it saves no optimizer for it, which is done here.
    """

    model: nn.Module
    optimizer: Any
    """accelerate's, around ours."""
    lr_scheduler: Any

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.is_distributed_loading_by_transformers = True

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        state = whole_state(self.optimizer.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, map_location="cpu", weights_only=True)
        take_state(self.optimizer.optimizer, state)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, weights_only=True))

    @contextmanager
    def _defer_fsdp_gradient_reduction(self) -> Iterator[None]:
        """Gradients are divided after each pass: kept whole until the step, they would be what sharding saves."""
        yield
