"""What of a model learns in a tuning, and the model written with what it learnt, adapters merged in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lep.config import Tuning
from lep.io.model_folder import ModelFolder, stored_names
from lep.io.model_writer import copy_tokenizer, copy_with_tables, lay_out
from lep.io.safetensors_files import view
from lep.modeling.trainable_layers import Became, add_adapters, decoder_layers, learnt_weights, let_whole_layers_learn


def let_learn(model: PreTrainedModel, settings: Tuning, *, source: ModelFolder) -> None:
    """Let learn what the settings say; all of it must have a place in the model's folder.

    Args:
        model: changed in place.
        settings: what learns.
        source: the model's folder.

    Raises:
        CheckpointError: a weight that would learn is not stored as such.
    """
    let_parts_learn(model, settings)
    stored_names(source, learnt_weights(model))


def let_parts_learn(model: PreTrainedModel, settings: Tuning) -> None:
    """Let learn what `adapters`, `layers` and `tables` say, in float32; everything else is frozen."""
    dtype = model.dtype
    model.requires_grad_(False)
    for table in _learning_tables(model, settings.tables):
        table.weight.data = table.weight.data.float()
        table.weight.requires_grad_()
    if dtype != torch.float32:  # the layers compute as they will when the table is rounded
        model.get_input_embeddings().register_forward_hook(lambda _, __, found: found.to(dtype))
    if settings.adapters == "none":
        let_whole_layers_learn(model, "full" if settings.layers == "all" else "first_last")
    else:
        add_adapters(model, _adapters(model, settings))


def write_learnt(model: PreTrainedModel, source: ModelFolder, out: Path) -> None:
    """Write a model after `let_learn` and a training; see `write_changed`."""
    parts: dict[str, Any] = {"embed": model.get_input_embeddings(), "head": model.get_output_embeddings()}
    tables = {name: part.weight.detach().cpu() for name, part in parts.items() if part.weight.requires_grad}
    write_changed(source, out, tables=tables, weights=learnt_weights(model))


def write_changed(
    source: ModelFolder, out: Path, *, tables: Mapping[str, Tensor], weights: Mapping[str, Became]
) -> None:
    """Write a model as it was but for what learnt: all other tensors keep their bytes.

    Args:
        source: the model's folder as it was.
        out: an existing folder.
        tables: `embed` and `head`, as far as they learnt.
        weights: what became of the layers' weights, by their names in a loaded model.
    """
    entries = source.checkpoint.entries
    values = {
        stored: lambda name=name, stored=stored: weights[name](view(entries[stored], writable=False))
        for name, stored in stored_names(source, weights).items()
    }
    layout = lay_out(source, rows=len(source.rows("embed")), changed=values)
    for name, rows in copy_with_tables(layout, out, values=values).items():
        rows[:] = tables[name] if name in tables else source.rows(name)[:]
    copy_tokenizer(source.path, out)


def _learning_tables(model: PreTrainedModel, which: str) -> tuple[Any, ...]:
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    return {"frozen": (), "head": (head,), "both": (embed, head)}[which]


def _adapters(model: PreTrainedModel, settings: Tuning) -> LoraConfig:
    return LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        use_dora=settings.adapters == "dora",
        target_modules="all-linear" if settings.layers == "all" else _linear_maps_of_first_and_last(model),
    )


def _linear_maps_of_first_and_last(model: PreTrainedModel) -> list[str]:
    layers = decoder_layers(model)
    inside = {id(part) for layer in (layers[0], layers[-1]) for part in layer.modules()}
    linear = (nn.Linear, Conv1D)
    return [name for name, part in model.named_modules() if id(part) in inside and isinstance(part, linear)]
