"""The data of each family agrees with the classes of transformers."""

from __future__ import annotations

import pytest
from transformers import CONFIG_MAPPING

from lep.io.families import EMBED_NAME_PATTERN, FAMILIES, HEAD_NAME_PATTERN, HIDDEN_SIZE_KEYS, TEXT_CONFIG_KEYS

EMBEDDINGS = {  # embed, head; of families whose embeddings are found by name
    "bloom": ("transformer.word_embeddings.weight", "lm_head.weight"),
    "chatglm": ("transformer.embedding.word_embeddings.weight", "transformer.output_layer.weight"),
    "internlm2": ("model.tok_embeddings.weight", "output.weight"),
    "llama, Meta's own": ("tok_embeddings.weight", "output.weight"),
    "mamba": ("backbone.embeddings.weight", "lm_head.weight"),
    "mpt": ("transformer.wte.weight", "lm_head.weight"),
    "opt": ("model.decoder.embed_tokens.weight", "lm_head.weight"),
    "rwkv": ("rwkv.embeddings.weight", "head.weight"),
}
OTHER_TENSORS = (
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.mlp.gate_up_proj.weight",
    "model.layers.3.block_sparse_moe.experts.0.w1.weight",
    "transformer.h.0.attn.c_attn.weight",
    "transformer.wpe.weight",
    "multi_modal_projector.linear_1.weight",
)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_missing_tie_setting_means_the_default_of_the_class(family) -> None:
    assert CONFIG_MAPPING[family]().tie_word_embeddings is FAMILIES[family].tied_by_default


@pytest.mark.parametrize("family", FAMILIES)
def test_sizes_are_where_the_family_keeps_them(family) -> None:
    config = CONFIG_MAPPING[family]().to_dict()
    text = next((config[key] for key in TEXT_CONFIG_KEYS if key in config), config)
    assert "vocab_size" in text and any(key in text for key in HIDDEN_SIZE_KEYS)


@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_of_known_families_match_the_name_patterns(family) -> None:
    for names in FAMILIES[family].embedding_names:
        assert (
            EMBED_NAME_PATTERN.search(names.embed)
            and not HEAD_NAME_PATTERN.search(names.embed)
            and HEAD_NAME_PATTERN.search(names.head)
        )


@pytest.mark.parametrize("family", EMBEDDINGS)
def test_embeddings_of_other_families_match_the_name_patterns(family) -> None:
    embed, head = EMBEDDINGS[family]
    assert EMBED_NAME_PATTERN.search(embed) and not HEAD_NAME_PATTERN.search(embed) and HEAD_NAME_PATTERN.search(head)


@pytest.mark.parametrize("name", OTHER_TENSORS)
def test_layers_do_not_match_the_name_patterns(name) -> None:
    assert not EMBED_NAME_PATTERN.search(name) and not HEAD_NAME_PATTERN.search(name)
