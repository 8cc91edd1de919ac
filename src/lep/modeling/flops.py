"""FLOPs per token of a decoder: which numbers of a weight a token is multiplied by, and what attention adds.

Only matrix products count: 2 operations per weight and token. Recomputed activations do not count, so that the ratio
to the peak of the device is the model FLOPs utilization (MFU) of arXiv 2204.02311, appendix B.
"""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedConfig


def count_active_parameters(config: PreTrainedConfig, name: str, weight: nn.Parameter) -> float:
    """Return how many numbers of a weight one token is multiplied by: of experts, those that it is routed to.

    Args:
        config: Configuration of the decoder.
        name: Name of the weight, which tells experts.
        weight: The weight of a layer.

    Returns:
        The number; a fraction of the weight's size only for the experts of a mixture.
    """
    per_token = getattr(config, "num_experts_per_tok", None)
    fraction = per_token / weight.shape[0] if per_token and "experts" in name and weight.ndim == 3 else 1.0
    return fraction * weight.numel()


def attention_flops_per_token(config: PreTrainedConfig, *, sequence_length: int) -> float:
    """Return the forward FLOPs per token of the products QKᵀ and PV, half of which a causal mask saves."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2.0 * config.num_hidden_layers * config.num_attention_heads * head_dim * sequence_length
