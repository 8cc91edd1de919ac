"""Tensor names of the input and output embeddings in each model family: data, not code."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class EmbeddingNames:
    """Tensor names of the input and output embeddings; the same name twice if they are tied."""

    embed: str
    head: str


@dataclass(frozen=True)
class ModelFamily:
    """The tensor names that a family's files use, and whether its embeddings are tied by default."""

    embedding_names: tuple[EmbeddingNames, ...]
    """By version of transformers and by wrapper class; the first whose `embed` is stored is taken."""
    tied_by_default: bool = False
    """The default of the family's configuration class, for a config.json without `tie_word_embeddings`."""


_STANDARD = EmbeddingNames(embed="model.embed_tokens.weight", head="lm_head.weight")
_LLAMA_LIKE, _GEMMA_LIKE = ModelFamily((_STANDARD,)), ModelFamily((_STANDARD,), tied_by_default=True)

# A vision-language model nests its text model: as published and as transformers 5 writes, and as transformers 4.52 to
# 4.57 did.
_WRAPPED_CAUSAL_LM = EmbeddingNames(
    embed="language_model.model.embed_tokens.weight", head="language_model.lm_head.weight"
)
_NESTED_LANGUAGE_MODEL = EmbeddingNames(embed="model.language_model.embed_tokens.weight", head="lm_head.weight")
_NESTED_TEXT_MODEL = EmbeddingNames(embed="model.text_model.embed_tokens.weight", head="lm_head.weight")

FAMILIES: dict[str, ModelFamily] = {
    "llama": _LLAMA_LIKE,
    "mistral": _LLAMA_LIKE,
    "qwen2": _LLAMA_LIKE,
    "qwen3": _LLAMA_LIKE,
    "gemma": _GEMMA_LIKE,
    "gemma2": _GEMMA_LIKE,
    "gemma3_text": _GEMMA_LIKE,
    "phi3": _LLAMA_LIKE,
    "smollm3": _GEMMA_LIKE,
    "olmo2": _LLAMA_LIKE,
    "gpt_neox": ModelFamily((EmbeddingNames(embed="gpt_neox.embed_in.weight", head="embed_out.weight"),)),
    "gpt2": ModelFamily(
        (
            EmbeddingNames(embed="transformer.wte.weight", head="lm_head.weight"),
            EmbeddingNames(embed="wte.weight", head="lm_head.weight"),  # as OpenAI's own are published
        ),
        tied_by_default=True,
    ),
    # mixtures of experts
    "mixtral": _LLAMA_LIKE,
    "qwen2_moe": _LLAMA_LIKE,
    "qwen3_moe": _LLAMA_LIKE,
    "deepseek_v2": _LLAMA_LIKE,
    "deepseek_v3": _LLAMA_LIKE,
    # with vision
    "gemma3": ModelFamily((_WRAPPED_CAUSAL_LM, _NESTED_LANGUAGE_MODEL), tied_by_default=True),
    "paligemma": ModelFamily((_WRAPPED_CAUSAL_LM, _NESTED_LANGUAGE_MODEL), tied_by_default=True),
    "llava": ModelFamily((_WRAPPED_CAUSAL_LM, _NESTED_LANGUAGE_MODEL)),
    "mistral3": ModelFamily((_WRAPPED_CAUSAL_LM, _NESTED_LANGUAGE_MODEL), tied_by_default=True),
    "internvl": ModelFamily((_WRAPPED_CAUSAL_LM, _NESTED_LANGUAGE_MODEL), tied_by_default=True),
    "qwen2_vl": ModelFamily((_STANDARD, _NESTED_LANGUAGE_MODEL)),
    "qwen2_5_vl": ModelFamily((_STANDARD, _NESTED_LANGUAGE_MODEL)),
    "qwen3_vl": ModelFamily((_NESTED_LANGUAGE_MODEL,)),
    "idefics3": ModelFamily((_NESTED_TEXT_MODEL,)),
    "smolvlm": ModelFamily((_NESTED_TEXT_MODEL,)),
}
"""By `model_type` of config.json. In any other model the embeddings are found by their shapes and names."""

TEXT_CONFIG_KEYS = ("text_config", "llm_config", "language_config")
"""Keys under which a vision-language model's config.json nests that of its text model."""

HIDDEN_SIZE_KEYS = ("hidden_size", "n_embd", "d_model", "dim")
"""Keys of the embedding dimension."""

HEAD_NAME_PATTERN = re.compile(r"head|embed_out|unembed|output|logits")
"""Parts of the name of an output embedding; tried before `EMBED_NAME_PATTERN`."""

EMBED_NAME_PATTERN = re.compile(r"embed|wte\b|tok_emb")
"""Parts of the name of an input embedding."""
