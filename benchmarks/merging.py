"""Merged against unmerged: how far the logits of a model that was written lie from those of the model that learnt.

Each way of learning makes three steps on the beginning of README.md, at a rate far above a real one, so that there is
something to merge. Weights are stored, and the model computes, in `precision`. Distances are relative to the length of
the logits: `moved` is how far learning moved them, `merged` how far writing did; `same first` is the share of places
where the same token is the most probable.

python benchmarks/merging.py [MODEL_FOLDER]     (default: the demo's published model; needs 5 GB of memory)
"""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lep.io.model_folder import open_model
from lep.io.model_writer import copy_tokenizer
from lep.modeling.loading import get_device, load_model, load_tokenizer
from lep.modeling.saving import write_trained_model
from lep.modeling.trainable_layers import TrainableLayers
from lep.modeling.trainable_model import TrainableModel

KINDS = list(product(("lora", "dora", "none"), ("all", "first_last"), ("none", "both")))
STEPS, RATE = 3, 1e-3


def stored_as(dtype: str, folder: Path, out: Path) -> Path:
    """Write the model in a precision, with its tokenizer."""
    load_model(folder, dtype=dtype).save_pretrained(out)
    copy_tokenizer(folder, out)
    return out


def text_ids(folder: Path) -> Tensor:
    """Encode the beginning of README.md, two samples of 128 tokens."""
    ids = load_tokenizer(folder)(Path("README.md").read_text(encoding="utf-8"))["input_ids"]
    return torch.tensor(ids[:256]).reshape(2, 128).to(get_device())


def train(model: TrainableModel, ids: Tensor, *, dtype: str) -> None:
    """Run a few steps of AdamW."""
    optimizer = torch.optim.AdamW(model.parameters.values(), lr=RATE)
    for _ in range(STEPS):
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            model.module(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def logits(model: PreTrainedModel, ids: Tensor, *, dtype: str) -> Tensor:
    """Return logits in float32."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return model(input_ids=ids).logits.float()


def distances(
    folder: Path,
    adapter: Literal["lora", "dora", "none"],
    layers: Literal["all", "first_last"],
    embeddings: Literal["none", "both"],
    *,
    dtype: str,
) -> tuple[float, float, float]:
    """Return how far training moved the logits, how far merging, and the share of tokens with the same first choice."""
    causal_lm, ids = load_model(folder, dtype=dtype), text_ids(folder)
    before = logits(causal_lm, ids, dtype=dtype)
    model = TrainableModel.with_whole_embeddings(causal_lm, embeddings, TrainableLayers(layers, adapter, 8, 8))
    train(model, ids, dtype=dtype)
    trained = logits(causal_lm, ids, dtype=dtype)
    with TemporaryDirectory() as out:
        write_trained_model(model, open_model(folder), Path(out))
        del model, causal_lm
        merged = logits(load_model(Path(out), dtype=dtype), ids, dtype=dtype)
    moved, off = ((other - trained).norm() / trained.norm() for other in (before, merged))
    return float(moved), float(off), float((merged.argmax(-1) == trained.argmax(-1)).float().mean())


def main(folder: Path) -> None:
    """Print a line for each kind of training and each precision."""
    torch.manual_seed(0)
    print(f"{'adapter':10}{'layers':12}{'rows':8}{'precision':10}{'moved':>10}{'merged':>10}{'same first':>12}")
    with TemporaryDirectory() as root:
        for dtype in ("float32", "bfloat16"):
            stored = stored_as(dtype, folder, Path(root) / dtype)
            for adapter, layers, embeddings in KINDS:
                moved, off, same = distances(stored, adapter, layers, embeddings, dtype=dtype)
                print(
                    f"{adapter:10}{layers:12}{embeddings:8}{dtype:10}{moved:10.1e}{off:10.1e}{same:12.1%}", flush=True
                )


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/demo/inputs/published"))
