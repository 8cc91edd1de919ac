"""FLOPs per token are those that torch counts in a training step, apart from what is not needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig, PretrainedConfig

from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

VOCAB, DIM, LAYERS, LENGTH = 120, 32, 2, 16
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
    "gpt2": GPT2Config(vocab_size=VOCAB, n_embd=DIM, n_layer=LAYERS, n_head=4, n_positions=LENGTH),
}


def build_model(config: PretrainedConfig, trainable: str) -> TrainableModel:
    causal_lm = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    layers = TrainableLayers.from_setting(trainable, lora_rank=4, lora_alpha=4)
    new_only = trainable == "new_tokens"
    return TrainableModel.with_split_embeddings(
        causal_lm, layers, new_ids=NEW if new_only else torch.arange(VOCAB), train_old_rows=not new_only
    )


@pytest.mark.parametrize("trainable", ["embeddings", "new_tokens", "embeddings+lora", "full"])
@pytest.mark.parametrize("family", CONFIGS)
def test_flops_are_those_that_torch_counts(family: str, trainable: str) -> None:
    model = build_model(CONFIGS[family], trainable)
    ids = torch.randint(VOCAB, (2, LENGTH))
    with FlopCounterMode(display=False) as counter:
        model.module(input_ids=ids, labels=ids).loss.backward()
    # torch counts what a causal mask saves, and the last token of a sample has no logits
    masked = 3 * 2 * LAYERS * DIM * LENGTH
    last_logits = 2 * (2 * VOCAB + (len(NEW) if trainable == "new_tokens" else VOCAB)) * DIM / LENGTH
    counted = counter.get_total_flops() / ids.numel()
    assert counted == model.flops_per_token(sequence_length=LENGTH) + masked - last_logits


def test_a_token_is_multiplied_by_its_experts_only() -> None:
    flops, active = [], []
    for per_token in (1, 2):
        config = MixtralConfig(**SIZES, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=per_token)
        model = build_model(config, "embeddings")
        flops.append(model.flops_per_token(sequence_length=LENGTH))
        active.append(model.count_active_layer_parameters())
    expert = 3 * DIM * SIZES["intermediate_size"]
    assert active[1] - active[0] == LAYERS * expert
    assert flops[1] - flops[0] == 2 * 2 * LAYERS * expert
