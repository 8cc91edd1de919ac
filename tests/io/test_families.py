"""What is written down of each family is what transformers' own classes say; the rooms' tests run them."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING

from lep.io.families import FAMILIES, LIKE_EMBED, LIKE_HEAD, TEXT_CONFIGS, WIDTHS

TABLES = {  # embed, head; of families that are found by what their tables are called
    "bloom": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "chatglm": ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"),
    "internlm2": ("model.tok_embeddings.weight", "output.weight"),
    "llama, Meta's own": ("tok_embeddings.weight", "output.weight"),
    "mamba": ("backbone.embeddings.weight", "lm_head.weight"),
    "mpt": ("transformer.wte.weight", "lm_head.weight"),
    "opt": ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    "rwkv": ("rwkv.embeddings.weight", "head.weight"),
}
NO_TABLES = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.gate_up_proj.weight",
    "model.layers.3.block_sparse_moe.experts.0.w1.weight",
    "transformer.h.0.attn.c_attn.weight",
    "transformer.wpe.weight",
    "multi_modal_projector.linear_1.weight",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_silent_configuration_means_the_default_of_its_class(family) -> None:
    assert CONFIG_MAPPING[family]().tie_word_embeddings is FAMILIES[family].tied


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_where_the_family_keeps_them(family) -> None:
    config = CONFIG_MAPPING[family]().to_dict()
    text = next((config[key] for key in TEXT_CONFIGS if key in config), config)
    assert "vocab_size" in text and any(key in text for key in WIDTHS)


@pytest.mark.parametrize("family", FAMILIES)
def test_tables_of_known_families_would_be_found_by_name_too(family) -> None:
    for names in FAMILIES[family].layouts:
        assert LIKE_EMBED.search(names.embed) and not LIKE_HEAD.search(names.embed) and LIKE_HEAD.search(names.head)


@pytest.mark.parametrize("family", TABLES)
def test_tables_of_other_families_are_found_by_name(family) -> None:
    embed, head = TABLES[family]
    assert LIKE_EMBED.search(embed) and not LIKE_HEAD.search(embed) and LIKE_HEAD.search(head)


@pytest.mark.parametrize("name", NO_TABLES)
def test_layers_are_not_called_like_tables(name) -> None:
    assert not LIKE_EMBED.search(name) and not LIKE_HEAD.search(name)
