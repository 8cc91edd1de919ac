"""The tables of a model, made trainable while everything else stays frozen.

Rows that the base model had and rows of new tokens are two parameters, so that each can have its own learning rate, and
frozen rows are moved by nothing: neither gradient, momentum nor weight decay.
Axes: `vocab` ids; `dim` the model's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel


class SplitTable(nn.Module):
    """One table as two parameters, float32: `old` and `new` rows."""

    old: nn.Parameter
    new: nn.Parameter
    order: Int[Tensor, " vocab"]

    def __init__(self, table: Float[Tensor, "vocab dim"], *, new_rows: Int[Tensor, " new"]) -> None:
        super().__init__()
        is_new = torch.zeros(len(table), dtype=torch.bool)
        is_new[new_rows] = True
        rows = torch.cat([(~is_new).nonzero().flatten(), is_new.nonzero().flatten()])
        self.old = nn.Parameter(table[rows[: len(table) - len(new_rows)]].float())
        self.new = nn.Parameter(table[rows[len(table) - len(new_rows) :]].float())
        self.register_buffer("order", rows.argsort(), persistent=False)
        self.in_order = bool((rows == torch.arange(len(table))).all())

    def forward(self) -> Float[Tensor, "vocab dim"]:
        """The whole table, rows in the order of their ids."""
        rows = torch.cat([self.old, self.new])
        return rows if self.in_order else rows[self.order]


class SplitEmbedding(nn.Module):
    """Input embedding by a split table. Looked up in float32, so that gradients of frequent tokens add up exactly."""

    def __init__(self, table: SplitTable, *, dtype: torch.dtype) -> None:
        super().__init__()
        self.table, self.dtype = table, dtype

    def forward(self, input_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        return nn.functional.embedding(input_ids, self.table()).to(self.dtype)


class SplitHead(nn.Module):
    """Output embedding by a split table."""

    def __init__(self, table: SplitTable) -> None:
        super().__init__()
        self.table = table

    def forward(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        return nn.functional.linear(hidden, self.table().to(hidden.dtype))


class TrainableTables(nn.Module):
    """A frozen model whose tables learn. Its state is the tables alone, so that checkpoints hold nothing else."""

    def __init__(self, model: PreTrainedModel, *, new_rows: Int[Tensor, " new"]) -> None:
        super().__init__()
        model.requires_grad_(False)
        modules: Any = (model.get_input_embeddings(), model.get_output_embeddings())
        embed, head = (module.weight for module in modules)
        self.embed = SplitTable(embed.detach(), new_rows=new_rows)
        self.head = self.embed if head is embed else SplitTable(head.detach(), new_rows=new_rows)
        model.set_input_embeddings(SplitEmbedding(self.embed, dtype=embed.dtype))
        model.set_output_embeddings(SplitHead(self.head))
        self.model = model

    @property
    def tables(self) -> dict[str, SplitTable]:
        """`embed`, and `head` when it is another table."""
        return {"embed": self.embed} if self.head is self.embed else {"embed": self.embed, "head": self.head}

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor | None = None, **more: object):  # noqa: ANN201
        return self.model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, **more)

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:  # type: ignore[override]
        """The rows of the tables."""
        return {
            f"{name}.{part}": getattr(table, part).detach()
            for name, table in self.tables.items()
            for part in ("old", "new")
        }

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *_: object, **__: object) -> Any:  # type: ignore[override]
        """Take back the rows that `state_dict` gave; all of them must be there."""
        parts = ("old", "new")
        loaded = [
            table.load_state_dict({part: state_dict[f"{name}.{part}"] for part in parts})
            for name, table in self.tables.items()
        ]
        return loaded[-1]
