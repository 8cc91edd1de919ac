"""What of a model learns in a tuning, and the model written with what it learnt, adapters merged in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from lep.config import Tuning
from lep.engine.layers import add_adapters, decoder_layers, learnt_weights, let_layers_learn
from lep.io.checkpoint import copy_tokenizer, copy_with_tables, lay_out
from lep.io.model import ModelFolder, stored_names
from lep.io.tensors import view


def let_learn(model: PreTrainedModel, settings: Tuning, *, source: ModelFolder) -> None:
    """Let learn what `adapters`, `layers` and `tables` say, in float32; everything else is frozen.

    Args:
        model: changed in place.
        settings: what learns.
        source: the model's folder; all that learns must have a place in it.

    Raises:
        CheckpointError: a weight that would learn is not stored as such.
    """
    dtype = model.dtype
    model.requires_grad_(False)
    for table in _learning_tables(model, settings.tables):
        table.weight.data = table.weight.data.float()
        table.weight.requires_grad_()
    if dtype != torch.float32:  # the layers compute as they will when the table is rounded
        model.get_input_embeddings().register_forward_hook(lambda _, __, found: found.to(dtype))
    if settings.adapters == "none":
        let_layers_learn(
            model, "full" if settings.layers == "all" else "first_last", lora_rank=settings.lora_rank, lora_alpha=1
        )
    else:
        add_adapters(model, _adapters(model, settings))
    stored_names(source, learnt_weights(model))


def write_learnt(model: PreTrainedModel, source: ModelFolder, out: Path) -> None:
    """Write the model as it was but for what learnt: all other tensors keep their bytes.

    Args:
        model: after `let_learn` and a training.
        source: its folder as it was.
        out: an existing folder.
    """
    weights, entries = learnt_weights(model), source.checkpoint.entries
    values = {
        stored: lambda name=name, stored=stored: weights[name](view(entries[stored], writable=False))
        for name, stored in stored_names(source, weights).items()
    }
    layout = lay_out(source, rows=len(source.rows("embed")), changed=values)
    for name, rows in copy_with_tables(layout, out, values=values).items():
        learnt = _table(model, name)
        rows[:] = source.rows(name)[:] if learnt is None else learnt
    copy_tokenizer(source.path, out)


def _learning_tables(model: PreTrainedModel, which: str) -> tuple[Any, ...]:
    embed, head = model.get_input_embeddings(), model.get_output_embeddings()
    return {"frozen": (), "head": (head,), "both": (embed, head)}[which]


def _table(model: PreTrainedModel, name: str) -> Tensor | None:
    """A table that learnt, on the processor."""
    part: Any = model.get_input_embeddings() if name == "embed" else model.get_output_embeddings()
    return part.weight.detach().cpu() if part.weight.requires_grad else None


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
