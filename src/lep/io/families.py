"""Where the tables live in each model family: data, not code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TableNames:
    """Tensor names of the two tables; the head is absent from the files of a tied model."""

    embed: str
    head: str


_LLAMA_LIKE = TableNames(embed="model.embed_tokens.weight", head="lm_head.weight")

FAMILIES: dict[str, TableNames] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "mixtral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "gemma": _LLAMA_LIKE,
    "gemma2": _LLAMA_LIKE,
    "gemma3_text": _LLAMA_LIKE,
    "phi3": _LLAMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "smollm3": _LLAMA_LIKE,
    "gpt_neox": TableNames(embed="gpt_neox.embed_in.weight", head="embed_out.weight"),
    "gpt2": TableNames(embed="transformer.wte.weight", head="lm_head.weight"),
}
"""By `model_type` of config.json."""
