"""Make layers of a decoder trainable: none, the first and the last, or all; whole weights, LoRA or DoRA adapters.

Trained weights are float32: in half precision, small optimizer steps would be rounded away.
Sources: LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lep.errors import CheckpointError

WeightUpdate = Callable[[Tensor], Tensor]
"""Maps the original value of a weight to its trained value, adapters merged."""

_ADAPTER_NAME = "default"


@dataclass(frozen=True)
class TrainableLayers:
    """Which layers are trained, and how."""

    layers: Literal["none", "first_last", "all"] = "none"
    adapter: Literal["none", "lora", "dora"] = "none"
    """`none` trains the weights themselves."""
    lora_rank: int = 1
    lora_alpha: int = 1
    """The product of the two LoRA factors is scaled by `lora_alpha / lora_rank`."""

    @classmethod
    def from_setting(cls, trainable: str, *, lora_rank: int, lora_alpha: int) -> TrainableLayers:
        """Return which layers a value of the setting `pretrain.trainable` trains.

        Args:
            trainable: The value, as `embeddings+lora`.
            lora_rank: Rank of the adapters, if there are any.
            lora_alpha: Scale of the adapters times their rank.

        Returns:
            The layers, and how they are trained; none for `embeddings` and `new_tokens`.
        """
        if trainable == "embeddings+lora":
            return cls("all", "lora", lora_rank, lora_alpha)
        return {"first_last": cls("first_last"), "full": cls("all")}.get(trainable, cls())


def set_trainable_layers(model: PreTrainedModel, selection: TrainableLayers) -> None:
    """Make the selected layers of a frozen model trainable, in place; its embeddings stay as they are."""
    if selection.adapter != "none":
        _add_adapters(model, selection)
    elif selection.layers != "none":
        embeddings = get_embedding_parameter_ids(model)
        for module in _select_modules(model, selection):
            for weight in module.parameters():
                if id(weight) not in embeddings:
                    weight.data = weight.data.float()
                    weight.requires_grad_()


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """Find the layers of a decoder.

    Args:
        model: A causal language model.

    Returns:
        The layers, first to last.

    Raises:
        CheckpointError: The model has no module list of the length that its configuration states.
    """
    count = model.config.get_text_config().num_hidden_layers
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) == count]
    if not lists:
        raise CheckpointError(f"{type(model).__name__} has no list of {count} layers, as its configuration says")
    return lists[0]


def get_embedding_parameter_ids(model: PreTrainedModel) -> set[int]:
    """Return the `id` of each parameter of the input and output embeddings."""
    modules: Any = (model.get_input_embeddings(), model.get_output_embeddings())
    return {id(weight) for module in modules for weight in module.parameters()}


def compute_weight_updates(
    model: PreTrainedModel, layer_parameters: Mapping[str, nn.Parameter]
) -> dict[str, WeightUpdate]:
    """Return how training changed the weights of the layers.

    Args:
        model: The trained model.
        layer_parameters: Its trained parameters that are not embeddings: adapters, or weights, by name.

    Returns:
        An update for each changed weight, by the weight's name in a model without adapters.
    """
    updates = {
        f"{name}.weight": _merge_update(module)
        for name, module in model.named_modules()
        if isinstance(module, LoraLayer)
    }
    return updates or {name: _replacement_update(weight) for name, weight in layer_parameters.items()}


def _select_modules(model: PreTrainedModel, selection: TrainableLayers) -> tuple[nn.Module, ...]:
    if selection.layers == "all":
        return (model,)
    layers = decoder_layers(model)
    return (layers[0], layers[-1])


def _add_adapters(model: PreTrainedModel, selection: TrainableLayers) -> None:
    """Add trainable adapters; parameters that are trainable already stay so, although peft freezes them."""
    targets = "all-linear" if selection.layers == "all" else _find_linear_modules(model, selection)
    config = LoraConfig(
        r=selection.lora_rank,
        lora_alpha=selection.lora_alpha,
        use_dora=selection.adapter == "dora",
        target_modules=targets,
    )
    trainable = [weight for weight in model.parameters() if weight.requires_grad]
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER_NAME)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    for weight in trainable:
        weight.requires_grad_()
    for layer in model.modules():
        if isinstance(layer, LoraLayer):
            layer.cast_input_dtype_enabled = False  # autocast casts where it is needed
            if _get_dora_magnitude(layer):
                _use_float32_dora_norms(layer)


def _find_linear_modules(model: PreTrainedModel, selection: TrainableLayers) -> list[str]:
    selected = {id(module) for layer in _select_modules(model, selection) for module in layer.modules()}
    linear = (nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if id(module) in selected and isinstance(module, linear)]


def _merge_update(layer: Any) -> WeightUpdate:
    """W + ΔW; for DoRA, rescaled to the trained row norms."""

    @torch.no_grad()
    def update(weight: Tensor) -> Tensor:
        merged = weight.float() + layer.get_delta_weight(_ADAPTER_NAME).to(weight.device)
        if not (dora := _get_dora_magnitude(layer)):
            return merged
        rows = transpose(merged, layer.fan_in_fan_out)
        scale = (dora.weight.to(weight.device) / rows.norm(dim=1))[:, None]
        return transpose(rows * scale, layer.fan_in_fan_out)

    return update


def _replacement_update(weight: Tensor) -> WeightUpdate:
    return lambda _: weight.detach().cpu()


@torch.no_grad()
def _use_float32_dora_norms(layer: Any) -> None:
    """Compute DoRA's row norms in float32.

    peft rounds them to the dtype of the layer: in half precision, the merged weight would differ by that rounding.
    """
    dora = _get_dora_magnitude(layer)

    def row_norms(weight: Tensor, lora_weight: Tensor, scaling: float, **_: object) -> Tensor:
        rows = transpose(weight.float(), layer.fan_in_fan_out) + scaling * lora_weight.float()
        return torch.linalg.norm(rows, dim=1)

    dora.get_weight_norm = row_norms
    dora.weight.data = torch.linalg.norm(transpose(layer.get_base_layer().weight.float(), layer.fan_in_fan_out), dim=1)


def _get_dora_magnitude(layer: Any) -> Any:
    """Return the DoRA part of an adapter, or `None`."""
    return dict(layer.lora_magnitude_vector.items()).get(_ADAPTER_NAME)
