"""Operations that training a model needs, and that the machine could do: their ratio is the model's utilisation.

Counted are the products of matrices: 2 operations for each weight and token. Work that is done twice to save memory
does not count. Source: arXiv 2204.02311, appendix B.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel

from lep.engine.layers import learning_layers, table_parameters
from lep.engine.tables import TrainableTables


def operations_per_token(model: TrainableTables, *, block: int) -> float:
    """Forward and backward, of one token in a block: 2 operations a weight for each of the three products it is in.

    The product with a weight's transpose is needed wherever something before it learns, and the embedding stands before
    everything; the product that gives a weight's own gradient, where it learns.

    Args:
        model: of it, every weight with two or more axes counts, but for rows that are only looked up: of tokens, and of
            positions.
        block: tokens in a sample: what attention multiplies grows with it.
    """
    inner: PreTrainedModel = model.model
    learning, head = {id(weight) for weight in learning_layers(inner).values()}, model.head
    looked_up = table_parameters(inner) | {id(it.weight) for it in inner.modules() if isinstance(it, nn.Embedding)}
    weights = 3 * head.new.numel() + (3 if head.old.requires_grad else 2) * head.old.numel()
    for name, weight in inner.base_model.named_parameters():
        if weight.ndim >= 2 and id(weight) not in looked_up:
            weights += (3 if id(weight) in learning else 2) * _active(inner, name, weight)
    return 2.0 * weights + 3 * _attention(inner, block=block)


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
