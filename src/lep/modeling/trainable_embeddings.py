"""Trainable input and output embeddings of a causal language model whose other weights stay as they are.

Rows of the base model's tokens (old) and of new tokens are two parameters: each has its own learning rate, and frozen
rows are moved by nothing, neither gradient, momentum nor weight decay.
Axes: `vocab` token ids; `dim` the hidden size.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from lep.data.packed_dataset import IGNORE_INDEX
from lep.errors import CheckpointError
from lep.modeling.chunked_cross_entropy import fused_linear_cross_entropy


class SplitEmbedding(nn.Module):
    """An embedding matrix as two float32 parameters, `old` and `new` rows, beside `weight`, which the layers use.

    `weight` is the copy in the layers' dtype, old rows before new ones; a *row index* is a row's number in it. The
    float32 parameters are copied into it before use; frozen old rows, and parameters that have its dtype, are views of
    it.
    """

    old: nn.Parameter
    new: nn.Parameter
    weight: Float[Tensor, "vocab dim"]
    id_to_row: Int[Tensor, " vocab"]

    def __init__(
        self, embedding_matrix: Float[Tensor, "vocab dim"], *, new_ids: Int[Tensor, " new"], freeze_old_rows: bool
    ) -> None:
        super().__init__()
        is_new = torch.zeros(len(embedding_matrix), dtype=torch.bool)
        is_new[new_ids] = True
        ids = torch.cat([(~is_new).nonzero().flatten(), is_new.nonzero().flatten()]).to(embedding_matrix.device)
        self.is_in_id_order = bool((ids.diff() > 0).all())
        self.register_buffer("weight", embedding_matrix[ids], persistent=False)
        self.register_buffer("id_to_row", ids.argsort(), persistent=False)
        old, new = self.weight.split([len(embedding_matrix) - len(new_ids), len(new_ids)])
        train_old, train_new = len(old) > 0 and not freeze_old_rows, len(new) > 0
        self.trained = tuple(name for name, trained in (("old", train_old), ("new", train_new)) if trained)
        """Names of the trained parameters."""
        self.old = nn.Parameter(old if freeze_old_rows else old.float(), requires_grad=train_old)
        self.new = nn.Parameter(new.float(), requires_grad=train_new)

    @property
    def nonempty_parameters(self) -> list[nn.Parameter]:
        """The rows of `weight` as parameters, one after the other; none is empty."""
        return [rows for rows in (self.old, self.new) if len(rows)]

    def forward(self) -> Float[Tensor, "vocab dim"]:
        """Return the whole matrix in float32, rows in the order of their ids."""
        rows = torch.cat([self.old.float(), self.new])
        return rows if self.is_in_id_order else rows[self.id_to_row]

    @torch.no_grad()
    def refresh_weight(self) -> Float[Tensor, "vocab dim"]:
        """Copy the parameters into `weight` and return it.

        They are copied each time, which costs little beside one product with them: fused optimizers leave no trace of
        a change.
        """
        memory = self.weight.untyped_storage().data_ptr()
        for rows, parameter in zip(
            self.weight.split([len(self.old), len(self.new)]), (self.old, self.new), strict=True
        ):
            if parameter.untyped_storage().data_ptr() != memory:
                rows.copy_(parameter)
        return self.weight

    def row_index(self, ids: Int[Tensor, "*batch"]) -> Int[Tensor, "*batch"]:
        """Return the row indices of token ids; `IGNORE_INDEX` stays."""
        return ids if self.is_in_id_order else torch.where(ids == IGNORE_INDEX, ids, self.id_to_row[ids.clamp(min=0)])


class SplitInputEmbedding(nn.Module):
    """Input embeddings from a split matrix, looked up in float32 so that gradients of frequent tokens add up exactly.

    Args:
        embedding: The matrix.
        scale: Factor of every looked-up row (Gemma).
    """

    def __init__(self, embedding: SplitEmbedding, *, scale: float) -> None:
        super().__init__()
        self.embedding, self.scale = embedding, scale
        self.tied_parameters: list[Tensor] = []
        """The parameters as the last look-up returned them: a tied head uses these, so that both gradients meet."""

    def forward(self, input_ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch dim"]:
        """Look up rows; see `nn.Embedding`."""
        index, dtype, start = self.embedding.row_index(input_ids), self.embedding.weight.dtype, 0
        hidden, self.tied_parameters = None, []
        for part in self.embedding.nonempty_parameters:
            rows, parameter = _EmbeddingLookup.apply(part, (index - start).clamp(0, len(part) - 1))  # type: ignore[misc]
            rows = rows.to(dtype)
            hidden = rows if hidden is None else torch.where((index < start)[..., None], hidden, rows)
            self.tied_parameters.append(parameter)
            start += len(part)
        assert hidden is not None
        return hidden if self.scale == 1 else hidden * torch.tensor(self.scale, dtype=dtype, device=hidden.device)


class _EmbeddingLookup(torch.autograd.Function):
    """Returns rows of a matrix, and the matrix: the gradient of its second use absorbs that of the rows, uncopied."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, row_index: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(row_index)
        ctx.shape = weight.shape
        ctx.set_materialize_grads(False)
        return functional.embedding(row_index, weight), weight.detach()

    @staticmethod
    def backward(ctx: Any, d_rows: Tensor | None, d_weight: Tensor | None) -> tuple[Tensor | None, None]:  # type: ignore[override]
        if d_rows is not None:
            d_weight = d_rows.new_zeros(ctx.shape) if d_weight is None else d_weight
            d_weight.index_add_(0, ctx.saved_tensors[0].flatten(), d_rows.flatten(0, -2))
        return d_weight, None


class SplitOutputEmbedding(nn.Module):
    """Output embeddings from a split matrix: all logits, for evaluation, generation and losses of a model's own.

    Args:
        embedding: The matrix.
        has_linear_logits: Whether the model's logits and loss need nothing else; see `has_linear_logits`.
    """

    def __init__(self, embedding: SplitEmbedding, *, has_linear_logits: bool) -> None:
        super().__init__()
        self.embedding, self.has_linear_logits = embedding, has_linear_logits

    def forward(self, hidden: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch vocab"]:
        """Compute logits; see `nn.Linear`."""
        if torch.is_grad_enabled():
            return functional.linear(hidden, self.embedding().to(hidden.dtype))
        logits = functional.linear(hidden, self.embedding.refresh_weight())
        return logits if self.embedding.is_in_id_order else logits[..., self.embedding.id_to_row]


class TrainableEmbeddings(nn.Module):
    """A frozen causal language model with trainable embeddings, and its loss without logits where that is possible.

    Args:
        causal_lm: The model, changed in place.
        new_ids: Ids of the rows that are a parameter of their own.
        train_old_rows: Otherwise they cost no gradient, no optimizer state and no float32 copy.

    Raises:
        CheckpointError: The model's embeddings are more than two matrices.
    """

    loss_type = "ForCausalLM"
    """Tells the Trainer that the first token of a sample is not predicted, and not to be counted."""

    def __init__(
        self, causal_lm: PreTrainedModel, *, new_ids: Int[Tensor, " new"], train_old_rows: bool = True
    ) -> None:
        super().__init__()
        causal_lm.requires_grad_(False)
        embedding, head = _get_embedding_modules(causal_lm)
        tied = head.weight is embedding.weight
        self.can_skip_logits = has_linear_logits(causal_lm)
        split = partial(SplitEmbedding, new_ids=new_ids, freeze_old_rows=not train_old_rows)
        self.embed = split(embedding.weight.detach())
        self.head = self.embed if tied else split(head.weight.detach())
        scale = float(getattr(embedding, "scalar_embed_scale", 1.0))
        self.input_embedding = SplitInputEmbedding(self.embed, scale=scale)
        _check_plain_embeddings(causal_lm, self.input_embedding)
        causal_lm.set_input_embeddings(self.input_embedding)
        causal_lm.set_output_embeddings(SplitOutputEmbedding(self.head, has_linear_logits=self.can_skip_logits))
        causal_lm.tie_weights = lambda *_, **__: None  # lm-eval calls it; there is nothing left to tie
        self.causal_lm = causal_lm

    @property
    def embeddings(self) -> dict[str, SplitEmbedding]:
        """`embed`, and `head` where it is another matrix."""
        return {"embed": self.embed} if self.head is self.embed else {"embed": self.embed, "head": self.head}

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, **kwargs: Any):  # noqa: ANN201
        """Run the model; with labels compute its loss, and where that needs no logits, nothing but the loss."""
        inputs = {"input_ids": input_ids, **kwargs}
        if labels is None:
            return self.causal_lm(**inputs)
        inputs["use_cache"] = False  # with a cache, transformers does not look for documents
        if not self.can_skip_logits:
            return self.causal_lm(labels=labels, **inputs)
        count = inputs.pop("num_items_in_batch", None)
        hidden = self.causal_lm.base_model(**inputs)[0].flatten(0, 1)
        targets = functional.pad(labels[:, 1:], (0, 1), value=IGNORE_INDEX).flatten()
        parameters = self.input_embedding.tied_parameters if self.head is self.embed else self.head.nonempty_parameters
        self.input_embedding.tied_parameters = []
        hidden = hidden.to(self.head.weight.dtype)  # a trained last norm gives float32
        nats = fused_linear_cross_entropy(
            hidden, self.head.refresh_weight(), self.head.row_index(targets), parameters=parameters
        )
        return CausalLMOutputWithPast(loss=nats / ((targets != IGNORE_INDEX).sum() if count is None else count))  # type: ignore[arg-type]


@torch.no_grad()
def has_linear_logits(model: PreTrainedModel) -> bool:
    """Return whether a model's loss is the cross-entropy of `head(decoder(ids))` and nothing else, tried in one pass.

    It is not with scaled or capped logits, or with further terms of the loss: such models compute their own loss. For a
    model inside `TrainableEmbeddings`, this is what was found when that was made.
    """
    head = model.get_output_embeddings()
    if isinstance(head, SplitOutputEmbedding):
        return head.has_linear_logits
    seen: dict[str, Any] = {}
    hooks = (
        model.base_model.register_forward_hook(lambda _, __, output: seen.update(decoded=output[0])),
        head.register_forward_hook(lambda _, inputs, output: seen.update(read=inputs[0], logits=output)),  # pyright: ignore[reportOptionalMemberAccess]
    )
    ids = _get_probe_ids(model)[None]
    output: Any = model(input_ids=ids, labels=ids, use_cache=False)
    for hook in hooks:
        hook.remove()
    plain_loss = functional.cross_entropy(seen["logits"][0, :-1].float(), ids[0, 1:])
    pairs = ((seen["decoded"], seen["read"]), (seen["logits"], output.logits), (plain_loss, output.loss))
    return all(torch.equal(first.float(), second.float()) for first, second in pairs)


@torch.no_grad()
def _check_plain_embeddings(model: PreTrainedModel, input_embedding: SplitInputEmbedding) -> None:
    """Raise `CheckpointError` unless the model's embeddings are two matrices and nothing else."""
    embedding, head = _get_embedding_modules(model)
    if getattr(head, "bias", None) is not None:
        raise CheckpointError(f"{type(model).__name__}: its output embeddings add a bias, which would be lost")
    ids = _get_probe_ids(model)
    if not torch.equal(embedding(ids), input_embedding(ids)):
        raise CheckpointError(
            f"{type(model).__name__}: its input embeddings do more than look up rows, which would be lost"
        )


def _get_embedding_modules(model: PreTrainedModel) -> tuple[Any, Any]:
    return model.get_input_embeddings(), model.get_output_embeddings()


def _get_probe_ids(model: PreTrainedModel) -> Int[Tensor, " probe"]:
    return torch.arange(min(8, len(_get_embedding_modules(model)[0].weight)), device=model.device)
