"""Where the tables live in each model family: data, not code."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class TableNames:
    """Tensor names of the two tables; the same name twice says that they are one."""

    embed: str
    head: str


@dataclass(frozen=True)
class Family:
    """The names that a family's files use, and whether its tables are tied where the configuration does not say."""

    layouts: tuple[TableNames, ...]
    """By version of the library and by wrapper; the first whose `embed` is stored is meant."""
    tied: bool = False
    """What a config.json without `tie_word_embeddings` means: the default of the family's configuration class."""


_PLAIN = TableNames(embed="model.embed_tokens.weight", head="lm_head.weight")
_LLAMA_LIKE, _GEMMA_LIKE = Family((_PLAIN,)), Family((_PLAIN,), tied=True)

# A vision-language model nests its text model: as published and as transformers 5 writes, and as transformers 4.52 to
# 4.57 did.
_WRAPPED = TableNames(embed="language_model.model.embed_tokens.weight", head="language_model.lm_head.weight")
_INSIDE = TableNames(embed="model.language_model.embed_tokens.weight", head="lm_head.weight")
_TEXT_INSIDE = TableNames(embed="model.text_model.embed_tokens.weight", head="lm_head.weight")

FAMILIES: dict[str, Family] = {
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
    "gpt_neox": Family((TableNames(embed="gpt_neox.embed_in.weight", head="embed_out.weight"),)),
    "gpt2": Family(
        (
            TableNames(embed="transformer.wte.weight", head="lm_head.weight"),
            TableNames(embed="wte.weight", head="lm_head.weight"),  # as OpenAI's own are published
        ),
        tied=True,
    ),
    # mixtures of experts
    "mixtral": _LLAMA_LIKE,
    "qwen2_moe": _LLAMA_LIKE,
    "qwen3_moe": _LLAMA_LIKE,
    "deepseek_v2": _LLAMA_LIKE,
    "deepseek_v3": _LLAMA_LIKE,
    # with vision
    "gemma3": Family((_WRAPPED, _INSIDE), tied=True),
    "paligemma": Family((_WRAPPED, _INSIDE), tied=True),
    "llava": Family((_WRAPPED, _INSIDE)),
    "mistral3": Family((_WRAPPED, _INSIDE), tied=True),
    "internvl": Family((_WRAPPED, _INSIDE), tied=True),
    "qwen2_vl": Family((_PLAIN, _INSIDE)),
    "qwen2_5_vl": Family((_PLAIN, _INSIDE)),
    "qwen3_vl": Family((_INSIDE,)),
    "idefics3": Family((_TEXT_INSIDE,)),
    "smolvlm": Family((_TEXT_INSIDE,)),
}
"""By `model_type` of config.json. In any other model the tables are found by their shapes and names."""

TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
"""Where a vision-language model's config.json nests that of its text model."""

WIDTHS = ("hidden_size", "n_embd", "d_model", "dim")
"""What configurations call the length of a row."""

LIKE_HEAD = re.compile(r"head|embed_out|unembed|output|logits")
"""Parts of the name of a tensor that gives each token its score; looked for before `LIKE_EMBED`."""

LIKE_EMBED = re.compile(r"embed|wte\b|tok_emb")
"""Parts of the name of a tensor that holds a row for each token."""
