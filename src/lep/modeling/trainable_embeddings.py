"""The tables of a model, made trainable while everything else stays frozen.

Rows that the base model had and rows of new tokens are two parameters, so that each can have its own learning rate, and
frozen rows are moved by nothing: neither gradient, momentum nor weight decay.
Axes: `vocab` ids; `dim` the model's width.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lep.data.packing import IGNORED
from lep.errors import CheckpointError
from lep.modeling.chunked_cross_entropy import summed_cross_entropy
from lep.modeling.sharding import share, whole


class SplitTable(nn.Module):
    """One table as two parameters, `old` and `new` rows, float32, beside `rows`: both as the layers compute with them.

    A place is a row's number in `rows`, where old rows stand before new ones. Frozen old rows, and parameters of the
    layers' own dtype, are views of `rows`; others are copied there before use.
    """

    old: nn.Parameter
    new: nn.Parameter
    rows: Float[Tensor, "vocab dim"]
    order: Int[Tensor, " vocab"]

    def __init__(self, table: Float[Tensor, "vocab dim"], *, new_rows: Int[Tensor, " new"], frozen: bool) -> None:
        super().__init__()
        is_new = torch.zeros(len(table), dtype=torch.bool)
        is_new[new_rows] = True
        ids = torch.cat([(~is_new).nonzero().flatten(), is_new.nonzero().flatten()]).to(table.device)
        self.in_order = bool((ids.diff() > 0).all())
        self.register_buffer("rows", table[ids], persistent=False)
        self.register_buffer("order", ids.argsort(), persistent=False)
        old, new = self.rows.split([len(table) - len(new_rows), len(new_rows)])
        self.old = nn.Parameter(old if frozen else old.float(), requires_grad=len(old) > 0 and not frozen)
        self.new = nn.Parameter(new.float(), requires_grad=len(new) > 0)

    @property
    def parts(self) -> list[nn.Parameter]:
        """`rows` as parameters, one after the other; none is empty."""
        return [rows for rows in (self.old, self.new) if len(rows)]

    def forward(self) -> Float[Tensor, "vocab dim"]:
        """The whole table in float32, rows in the order of their ids."""
        rows = torch.cat([self.old.float(), self.new])
        return rows if self.in_order else rows[self.order]

    @torch.no_grad()
    def computed(self) -> Float[Tensor, "vocab dim"]:
        """`rows`, up to date with the parameters.

        Copied each time, which is little beside one product with them: fused optimizers leave no trace of a change.
        """
        memory = self.rows.untyped_storage().data_ptr()
        for rows, parameter in zip(self.rows.split([len(self.old), len(self.new)]), (self.old, self.new), strict=True):
            if parameter.untyped_storage().data_ptr() != memory:
                rows.copy_(parameter)
        return self.rows

    def places(self, ids: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Where the rows of tokens stand; `IGNORED` stays."""
        return ids if self.in_order else torch.where(ids == IGNORED, ids, self.order[ids.clamp(min=0)])


class SplitEmbedding(nn.Module):
    """Input embedding by a split table. Looked up in float32, so that gradients of frequent tokens add up exactly."""

    def __init__(self, table: SplitTable, *, scale: float) -> None:
        super().__init__()
        self.table, self.scale = table, scale
        self.again: list[Tensor] = []
        """The table's parts since the last look-up, for a head that is the same table."""

    def forward(self, input_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        places, dtype, start = self.table.places(input_ids), self.table.rows.dtype, 0
        found, self.again = None, []
        for part in self.table.parts:
            rows, again = _LookUp.apply(part, (places - start).clamp(0, len(part) - 1))  # type: ignore[misc]
            found = rows.to(dtype) if found is None else torch.where((places < start)[..., None], found, rows.to(dtype))
            self.again.append(again)
            start += len(part)
        assert found is not None
        return found if self.scale == 1 else found * torch.tensor(self.scale, dtype=dtype, device=found.device)


class _LookUp(torch.autograd.Function):
    """Rows of a table, and the table again: the gradient of its second use takes in that of the rows, uncopied."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(places)
        ctx.shape = table.shape
        ctx.set_materialize_grads(False)
        return functional.embedding(places, table), table.detach()

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor | None, d_again: Tensor | None) -> tuple[Tensor | None, None]:  # type: ignore[override]
        if d_rows is not None:
            d_again = d_rows.new_zeros(ctx.shape) if d_again is None else d_again
            d_again.index_add_(0, ctx.saved_tensors[0].flatten(), d_rows.flatten(0, -2))
        return d_again, None


class SplitHead(nn.Module):
    """Output embedding by a split table: all logits, for evaluation, generation and losses of a model's own."""

    def __init__(self, table: SplitTable) -> None:
        super().__init__()
        self.table = table

    def forward(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        if torch.is_grad_enabled():
            return functional.linear(hidden, self.table().to(hidden.dtype))
        logits = functional.linear(hidden, self.table.computed())
        return logits if self.table.in_order else logits[..., self.table.order]


class TrainableTables(nn.Module):
    """A frozen model whose tables learn. Its state is what learns, so that checkpoints hold nothing else.

    Args:
        model: changed in place.
        new_rows: ids of the rows that are a parameter of their own.
        old_rows_learn: otherwise they cost no gradient, no optimizer state and no float32 copy.
    """

    loss_type = "ForCausalLM"
    """Tells the Trainer that the first token of a sample is not predicted, and not to be counted."""

    def __init__(self, model: PreTrainedModel, *, new_rows: Int[Tensor, " new"], old_rows_learn: bool = True) -> None:
        super().__init__()
        model.requires_grad_(False)
        embedding, head = _embeddings(model)
        tied = head.weight is embedding.weight
        self.without_logits = is_of_linear_logits(model, head)
        split = partial(SplitTable, new_rows=new_rows, frozen=not old_rows_learn)
        self.embed = split(embedding.weight.detach())
        self.head = self.embed if tied else split(head.weight.detach())
        scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
        self.look_up = SplitEmbedding(self.embed, scale=scale)
        _require_nothing_but_tables(model, self.look_up)
        model.set_input_embeddings(self.look_up)
        model.set_output_embeddings(SplitHead(self.head))
        model.tie_weights = lambda *_, **__: None  # the harness asks for it; there is nothing left to tie
        self.model = model

    @property
    def tables(self) -> dict[str, SplitTable]:
        """`embed`, and `head` when it is another table."""
        return {"embed": self.embed} if self.head is self.embed else {"embed": self.embed, "head": self.head}

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **more: Any):  # noqa: ANN201
        """What the model gives; with labels its loss, and where that needs no logits, only the loss."""
        given = {"input_ids": input_ids, **more}
        if labels is None:
            return self.model(**given)
        given["use_cache"] = False  # with a cache, transformers does not look for documents
        if not self.without_logits:
            return self.model(labels=labels, **given)
        count = given.pop("num_items_in_batch", None)
        hidden = self.model.base_model(**given)[0].flatten(0, 1)
        wanted = functional.pad(labels[:, 1:], (0, 1), value=IGNORED).flatten()
        parts = self.look_up.again if self.head is self.embed else self.head.parts
        self.look_up.again = []
        hidden = hidden.to(self.head.rows.dtype)  # a last norm that learns gives float32
        nats = summed_cross_entropy(hidden, self.head.computed(), self.head.places(wanted), parts=parts)
        return CausalLMOutputWithPast(loss=nats / ((wanted != IGNORED).sum() if count is None else count))  # type: ignore[arg-type]

    def state_dict(self, *_: object, **__: object) -> dict[str, Tensor]:  # type: ignore[override]
        """What learns: rows of tables, and weights or adapters of layers."""
        return {name: whole(weight.detach()) for name, weight in self.named_parameters() if weight.requires_grad}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], *_: object, **__: object) -> Any:  # type: ignore[override]
        """Take back what `state_dict` gave; all of it must be there."""
        named = self.named_parameters()
        learnt = {name: share(state_dict[name], like=weight) for name, weight in named if weight.requires_grad}
        loaded = super().load_state_dict(learnt, strict=False)
        loaded.missing_keys.clear()  # what is frozen, and further names of the same parameters
        return loaded


@torch.no_grad()
def is_of_linear_logits(model: PreTrainedModel, head: nn.Module) -> bool:
    """Whether the model's loss is the cross-entropy of `head(decoder(ids))` and nothing else, as seen in one pass.

    Not so with scaled or capped logits, or a loss with further terms: such models compute their own loss.
    """
    seen: dict[str, Any] = {}
    hooks = (
        model.base_model.register_forward_hook(lambda _, __, found: seen.update(decoded=found[0])),
        head.register_forward_hook(lambda _, given, found: seen.update(read=given[0], logits=found)),
    )
    ids = _first_ids(model)[None]
    found: Any = model(input_ids=ids, labels=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    plain = functional.cross_entropy(seen["logits"][0, :-1].float(), ids[0, 1:])
    pairs = ((seen["decoded"], seen["read"]), (seen["logits"], found.logits), (plain, found.loss))
    return all(torch.equal(ours.float(), theirs.float()) for ours, theirs in pairs)


@torch.no_grad()
def _require_nothing_but_tables(model: PreTrainedModel, looking_up: SplitEmbedding) -> None:
    """`CheckpointError` unless the tables are all there is to the model's embeddings."""
    embedding, head = _embeddings(model)
    if getattr(head, "bias", None) is not None:
        raise CheckpointError(
            f"{type(model).__name__}: its head adds a bias, which is no part of a table and would be lost"
        )
    ids = _first_ids(model)
    if not torch.equal(embedding(ids), looking_up(ids)):
        raise CheckpointError(f"{type(model).__name__}: its embedding does more than look up rows, which would be lost")


def _embeddings(model: PreTrainedModel) -> tuple[Any, Any]:
    """The modules that hold the tables."""
    return model.get_input_embeddings(), model.get_output_embeddings()


def _first_ids(model: PreTrainedModel) -> Int[Tensor, " few"]:
    return torch.arange(min(8, len(_embeddings(model)[0].weight)), device=model.device)
