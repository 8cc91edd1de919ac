"""FSDP2: parameters, gradients and optimizer state of a model divided among all processes.

Sharded by torch, not by accelerate: accelerate's FSDP silently is DDP on a CPU, and it gathers only what a module's own
forward uses, while embedding matrices are used by other modules. What is sharded, and why:

- Each decoder layer is a group, gathered only while it computes. Frozen layers, too: they are most of the memory.
  Trained float32 weights are communicated and gathered in the dtype that they compute in: autocast alone would keep a
  half-precision copy of every layer until the backward pass.
- Trained parameters outside the layers (embedding rows, norms) are one more group, gathered during a forward and a
  backward pass. Embeddings are used at both ends of the model, so they could not be freed in between; their gradients
  and optimizer state are sharded, three quarters of their memory, and each process updates its own rows.
- Frozen embedding rows and norms outside the layers are replicated: the rows are views of the matrix that the layers
  compute with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from lep.distributed import get_world_size, is_main_process
from lep.modeling.loading import get_device

ModuleT = TypeVar("ModuleT", bound=nn.Module)
ResultT = TypeVar("ResultT")

_CALL_UNSHARDED = "_call_unsharded"
"""Name of the method by which `forward_unsharded` is a forward pass to FSDP."""


def shard_model(
    model: nn.Module, *, layers: Iterable[nn.Module], trained: Iterable[nn.Parameter], dtype: torch.dtype
) -> None:
    """Divide a model among all processes, in place, before an optimizer is made.

    Args:
        model: The same in every process.
        layers: The layers of its decoder.
        trained: The parameters that are trained.
        dtype: Of the layers' computation; weights of another dtype are cast by autocast.
    """
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = init_device_mesh(get_device().type, (get_world_size(),))
    sharded: set[nn.Parameter] = set(trained)
    groups: list[Any] = []
    for layer in layers:
        sharded |= set(layer.parameters())
        groups.append(fully_shard(layer, mesh=mesh, mp_policy=policy))
    groups.append(fully_shard(model, mesh=mesh, ignored_params=set(model.parameters()) - sharded))
    setattr(model, _CALL_UNSHARDED, lambda function: function(model))
    register_fsdp_forward_method(model, _CALL_UNSHARDED)
    for group in groups:  # the memory of gathered parameters must not be allocated in inference mode, by a measurement
        group.unshard()
        group.reshard()


def forward_unsharded(model: ModuleT, function: Callable[[ModuleT], ResultT]) -> ResultT:
    """Call a function with a sharded model, any part of which it may use, in all processes at once.

    Embeddings are gathered meanwhile, layers while they compute.

    Args:
        model: The model that was sharded.
        function: What to do with it.

    Returns:
        What the function returns.
    """
    result = getattr(model, _CALL_UNSHARDED)(function)
    model.reshard()  # as after a step: the optimizer's parameters are in place  # pyright: ignore[reportCallIssue]
    return result


def full_tensor_on_main(tensor: Tensor) -> Tensor:
    """Return a sharded tensor as a whole, on the CPU of the main process; elsewhere only its shape (`meta`).

    All processes must ask for the same tensors in the same order. A tensor that is not sharded is returned as it is.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    full = tensor.full_tensor()
    return full.cpu() if is_main_process() else full.to("meta")


def local_shard(tensor: Tensor, *, like: Tensor) -> Tensor:
    """Return this process's shard of a replicated tensor, placed as `like`; the tensor itself if `like` is whole."""
    if not isinstance(like, DTensor):
        return tensor
    placed = tensor.to(like.device, like.dtype)
    return distribute_tensor(placed, like.device_mesh, like.placements, src_data_rank=None)


def gather_parameters(model: nn.Module, trained: Iterable[nn.Parameter]) -> None:
    """Gather the trained parameters of a sharded model to the CPU of the main process (`meta` elsewhere), in place.

    Replicated parameters and buffers move there as well. The model must not be run afterwards.

    Args:
        model: The model that was sharded.
        trained: Its trained parameters.
    """
    device, ids = "cpu" if is_main_process() else "meta", {id(weight) for weight in trained}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None and (id(weight) in ids or not isinstance(weight, DTensor)):
                full = full_tensor_on_main(weight.detach()).to(device)
                module._parameters[name] = nn.Parameter(full, requires_grad=weight.requires_grad)
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else buffer.to(device)


def full_optimizer_state_on_main(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the `state_dict` of an optimizer with whole tensors; see `full_tensor_on_main`."""
    state_dict = optimizer.state_dict()
    return state_dict | {"state": _map_state(state_dict["state"], lambda _, value: full_tensor_on_main(value))}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Load this process's shards of a `state_dict` with whole tensors, of a sharded or any other optimizer."""
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]

    def shard(index: int, value: Tensor) -> Tensor:
        per_element = value.shape == parameters[index].shape  # unlike the count of steps
        return local_shard(value, like=parameters[index]) if per_element else value

    optimizer.load_state_dict({**state_dict, "state": _map_state(state_dict["state"], shard)})


def _map_state(
    state: Mapping[int, Mapping[str, Tensor]], function: Callable[[int, Tensor], Tensor]
) -> dict[int, dict[str, Tensor]]:
    return {
        index: {name: function(index, value) for name, value in moments.items()} for index, moments in state.items()
    }
