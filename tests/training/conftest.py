"""A small trainable model and dataset for the parts of the trainers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch.utils.data import Dataset
from transformers import LlamaConfig, LlamaForCausalLM

from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel


class Samples(Dataset):  # pyright: ignore[reportMissingTypeArgument]
    """Sixteen samples of eight ids."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        ids = (torch.arange(8) * (index + 3)) % 40
        return {"input_ids": ids, "labels": ids}


@pytest.fixture
def samples() -> Samples:
    return Samples()


@pytest.fixture
def build_model() -> Iterator[Callable[..., TrainableModel]]:
    """`build_model(layers)`: the same model each time."""

    def build(layers: TrainableLayers | None = None) -> TrainableModel:
        torch.manual_seed(0)
        sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        causal_lm = LlamaForCausalLM(LlamaConfig(vocab_size=40, **sizes)).eval()
        return TrainableModel.with_split_embeddings(
            causal_lm, layers or TrainableLayers(), new_ids=torch.tensor([3, 7]), train_old_rows=True
        )

    with torch.random.fork_rng():
        yield build
