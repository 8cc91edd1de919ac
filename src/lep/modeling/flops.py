"""Operations that training a model needs, and that the machine could do: their ratio is the model's utilisation.

Counted are the products of matrices: 2 operations for each weight and token. Work that is done twice to save memory
does not count. Source: arXiv 2204.02311, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn
from transformers import PreTrainedModel

from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import learning_layers, table_parameters


def operations_per_token(model: TrainableTables, *, block: int) -> float:
    """Forward and backward, of one token in a block: 2 operations a weight for each of the three products it is in.

    The product with a weight's transpose is needed wherever something before it learns, and the embedding stands before
    everything; the product that gives a weight's own gradient, where it learns.

    Args:
        model: of it, every weight with two or more axes counts, but for rows that are only looked up: of tokens, and of
            positions.
        block: tokens in a sample: what attention multiplies grows with it.
    """
    head = model.head
    learning = sum(rows.numel() for rows in (head.old, head.new) if rows.requires_grad)
    frozen = head.rows.numel() - learning
    return operations(model.model, learning_head=learning, frozen_head=frozen, block=block)


def operations(model: PreTrainedModel, *, learning_head: int, frozen_head: int, block: int) -> float:
    """The same of a model of which it is decided what learns in its layers; its tables may be only shapes.

    Args:
        model: its tables are not looked at.
        learning_head: numbers of the head in rows that learn.
        frozen_head: in rows that do not.
        block: tokens in a sample.
    """
    weights = 3 * learning_head + 2 * frozen_head
    for numel, learns in _multiplied(model):
        weights += (3 if learns else 2) * numel
    return 2.0 * weights + 3 * _attention(model, block=block)


def layer_weights(model: PreTrainedModel) -> float:
    """Numbers of the layers' weights that a token is multiplied by."""
    return sum(numel for numel, _ in _multiplied(model))


def _multiplied(model: PreTrainedModel) -> Iterator[tuple[float, bool]]:
    """Of each weight of the layers how many numbers a token meets, and whether it learns."""
    learning = {id(weight) for weight in learning_layers(model).values()}
    looked_up = table_parameters(model) | {id(it.weight) for it in model.modules() if isinstance(it, nn.Embedding)}
    for name, weight in model.base_model.named_parameters():
        if weight.ndim >= 2 and id(weight) not in looked_up:
            yield _active(model, name, weight), id(weight) in learning


def _active(model: nn.Module, name: str, weight: nn.Parameter) -> float:
    """Numbers of a weight that one token meets: of the experts of a mixture, those that it is sent to."""
    config = model.config.get_text_config()  # pyright: ignore[reportCallIssue, reportAttributeAccessIssue]
    chosen = getattr(config, "num_experts_per_tok", None)
    share = chosen / weight.shape[0] if chosen and "experts" in name and weight.ndim == 3 else 1.0
    return share * weight.numel()


def _attention(model: PreTrainedModel, *, block: int) -> float:
    """Operations of one forward pass a token: queries by keys and weights by values, half of which causality spares."""
    config = model.config.get_text_config()
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2.0 * config.num_hidden_layers * config.num_attention_heads * width * block
