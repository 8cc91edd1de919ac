"""Operations are those that torch counts while a model trains, but for what is not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig

from lep.modeling.flops import operations_per_token
from lep.modeling.trainable_embeddings import TrainableTables
from lep.modeling.trainable_layers import Learn, let_layers_learn

VOCAB, DIM, LAYERS, BLOCK = 120, 32, 2, 16
NEW = torch.arange(100, VOCAB)
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": DIM,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES, num_key_value_heads=2),
    "tied llama": LlamaConfig(**SIZES, num_key_value_heads=2, tie_word_embeddings=True),
    "neox": GPTNeoXConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=DIM, n_layer=LAYERS, n_head=4, n_positions=BLOCK),
}


def made(family: str, learn: Learn) -> TrainableTables:
    model = AutoModelForCausalLM.from_config(CONFIGS[family], attn_implementation="eager").eval()
    new_rows = NEW if learn == "new_rows" else torch.arange(VOCAB)
    tables = TrainableTables(model, new_rows=new_rows, old_rows_learn=learn != "new_rows")
    let_layers_learn(model, learn, lora_rank=4, lora_alpha=4)
    return tables


@pytest.mark.parametrize("learn", ["embeddings", "new_rows", "embeddings+lora", "full"])
@pytest.mark.parametrize("family", CONFIGS)
def test_they_are_what_torch_counts(family: str, learn: Learn) -> None:
    model = made(family, learn)
    ids = torch.randint(VOCAB, (2, BLOCK))
    with FlopCounterMode(display=False) as counter:
        model(input_ids=ids, labels=ids).loss.backward()
    # torch counts what causality spares, and the head has nothing to say after the last token
    spared = 3 * 2 * LAYERS * DIM * BLOCK
    after_last = 2 * (2 * VOCAB + (len(NEW) if learn == "new_rows" else VOCAB)) * DIM / BLOCK
    counted = counter.get_total_flops() / ids.numel()
    assert counted == operations_per_token(model, block=BLOCK) + spared - after_last


def test_a_token_meets_the_experts_that_it_is_sent_to() -> None:
    found = []
    for chosen in (1, 2):
        config = MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=chosen)
        tables = TrainableTables(AutoModelForCausalLM.from_config(config).eval(), new_rows=torch.arange(VOCAB))
        found.append(operations_per_token(tables, block=BLOCK))
    expert = 3 * DIM * SIZES["intermediate_size"]
    assert found[1] - found[0] == 2 * 2 * LAYERS * expert
