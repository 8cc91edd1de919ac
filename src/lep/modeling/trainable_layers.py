"""What learns in a model's layers beside its tables: nothing, adapters, the first and the last layer, or all.

What learns is kept in float32, since half precision would swallow small steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from peft.utils.other import transpose
from torch import Tensor, nn
from transformers import PreTrainedModel

from lep.errors import CheckpointError

Learn = Literal["embeddings", "new_rows", "embeddings+lora", "first_last", "full"]

Became = Callable[[Tensor], Tensor]
"""What a weight became, given what it was."""

_ADAPTER = "default"


def let_layers_learn(model: PreTrainedModel, learn: Learn, *, lora_rank: int, lora_alpha: int) -> None:
    """Let layers of a frozen model learn as `learn` says; its tables stay as they are.

    Args:
        model: changed in place.
        learn: `embeddings` and `new_rows`: no layer.
        lora_rank: r of the adapters.
        lora_alpha: α of the adapters: their product is scaled by α / r.

    Source: LoRA, arXiv 2106.09685; METHOD §5.
    """
    if learn == "embeddings+lora":
        add_adapters(model, LoraConfig(r=lora_rank, lora_alpha=lora_alpha, target_modules="all-linear"))
    else:
        let_whole_layers_learn(model, learn)


def let_whole_layers_learn(model: PreTrainedModel, learn: Learn) -> None:
    """Let the layers that `learn` names learn themselves, without adapters; tables stay as they are."""
    tables = table_parameters(model)
    for part in _whole_parts(model, learn):
        for weight in part.parameters():
            if id(weight) not in tables:
                weight.data = weight.data.float()
                weight.requires_grad_()


def add_adapters(model: PreTrainedModel, config: LoraConfig) -> None:
    """Add adapters, which learn; what learns already goes on learning, which peft would not have it do.

    Source: LoRA, arXiv 2106.09685; DoRA, arXiv 2402.09353.
    """
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    inject_adapter_in_model(config, model, adapter_name=_ADAPTER)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    for weight in learning:
        weight.requires_grad_()
    for _, layer in _adapted(model):
        layer.cast_input_dtype_enabled = False  # autocast does, where it is needed
        if _dora(layer):
            _lengths_in_float(layer)


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The layers of a decoder, first to last.

    Raises:
        CheckpointError: no list of as many modules as the configuration has layers.
    """
    count = model.config.get_text_config().num_hidden_layers
    found = [part for part in model.modules() if isinstance(part, nn.ModuleList) and len(part) == count]
    if not found:
        raise CheckpointError(f"{type(model).__name__}: has no list of {count} layers, as its configuration says")
    return found[0]


def table_parameters(model: PreTrainedModel) -> set[int]:
    """The parameters of both tables, by `id`."""
    parts: Any = (model.get_input_embeddings(), model.get_output_embeddings())
    return {id(weight) for part in parts for weight in part.parameters()}


def learning_layers(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The parameters that learn beside the tables, by name: whole weights, or the factors of adapters."""
    tables = table_parameters(model)
    named = model.named_parameters()
    return {name: weight for name, weight in named if weight.requires_grad and id(weight) not in tables}


def learnt_weights(model: PreTrainedModel) -> dict[str, Became]:
    """What the layers' weights became, by their names in a model without adapters; the others are left out."""
    became = {f"{name}.weight": _merged(layer) for name, layer in _adapted(model)}
    return became or {name: _replaced(weight) for name, weight in learning_layers(model).items()}


def _whole_parts(model: PreTrainedModel, learn: Learn) -> Iterable[nn.Module]:
    if learn == "first_last":
        layers = decoder_layers(model)
        return (layers[0], layers[-1])
    return (model,) if learn == "full" else ()


def _adapted(model: nn.Module) -> list[tuple[str, LoraLayer]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, LoraLayer)]


def _merged(layer: Any) -> Became:
    """W + ΔW; of DoRA, its rows with the lengths that were learnt."""

    @torch.no_grad()
    def became(weight: Tensor) -> Tensor:
        merged = weight.float() + layer.get_delta_weight(_ADAPTER).to(weight.device)
        if not (dora := _dora(layer)):
            return merged
        rows = transpose(merged, layer.fan_in_fan_out)
        lengths = (dora.weight.to(weight.device) / rows.norm(dim=1))[:, None]
        return transpose(rows * lengths, layer.fan_in_fan_out)

    return became


@torch.no_grad()
def _lengths_in_float(layer: Any) -> None:
    """Have DoRA compute lengths of rows in float32.

    peft rounds them to the layer's dtype: in half precision, the merged map would be another by as much.
    """
    dora = _dora(layer)

    def lengths(weight: Tensor, lora_weight: Tensor, scaling: float, **_: object) -> Tensor:
        rows = transpose(weight.float(), layer.fan_in_fan_out) + scaling * lora_weight.float()
        return torch.linalg.norm(rows, dim=1)

    dora.get_weight_norm = lengths
    dora.weight.data = torch.linalg.norm(transpose(layer.get_base_layer().weight.float(), layer.fan_in_fan_out), dim=1)


def _dora(layer: Any) -> Any:
    """DoRA's part of an adapter; none when it has none."""
    return dict(layer.lora_magnitude_vector.items()).get(_ADAPTER)


def _replaced(weight: Tensor) -> Became:
    return lambda _: weight.detach().cpu()
