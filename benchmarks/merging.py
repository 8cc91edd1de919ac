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

import torch
from torch import Tensor
from transformers import PreTrainedModel

from lep.config import Tuning
from lep.io.model_folder import open_model
from lep.io.model_writer import copy_tokenizer
from lep.modeling.loading import device, load_model, load_tokenizer
from lep.modeling.saving import let_learn, write_learnt

WAYS = list(product(("lora", "dora", "none"), ("all", "first_last"), ("frozen", "both")))
STEPS, RATE = 3, 1e-3


def stored_as(dtype: str, folder: Path, out: Path) -> Path:
    """The model in a precision, with its tokenizer."""
    load_model(folder, dtype=dtype).save_pretrained(out)
    copy_tokenizer(folder, out)
    return out


def text_ids(folder: Path) -> Tensor:
    """The beginning of README.md, two samples of 128 tokens."""
    ids = load_tokenizer(folder)(Path("README.md").read_text(encoding="utf-8"))["input_ids"]
    return torch.tensor(ids[:256]).reshape(2, 128).to(device())


def learn(model: PreTrainedModel, ids: Tensor, *, dtype: str) -> None:
    """A few steps of AdamW on what learns."""
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=RATE)
    for _ in range(STEPS):
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


@torch.no_grad()
def logits(model: PreTrainedModel, ids: Tensor, *, dtype: str) -> Tensor:
    """In float32."""
    with torch.autocast(ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        return model(input_ids=ids).logits.float()


def distances(folder: Path, settings: Tuning) -> tuple[float, float, float]:
    """How far learning moved the logits, how far merging, and the share of tokens that are first before and after."""
    model, source, dtype = load_model(folder, dtype=settings.dtype), open_model(folder), settings.dtype
    ids = text_ids(folder)
    before = logits(model, ids, dtype=dtype)
    let_learn(model, settings, source=source)
    learn(model, ids, dtype=dtype)
    learnt = logits(model, ids, dtype=dtype)
    with TemporaryDirectory() as out:
        write_learnt(model, source, Path(out))
        del model
        merged = logits(load_model(Path(out), dtype=dtype), ids, dtype=dtype)
    moved, off = ((other - learnt).norm() / learnt.norm() for other in (before, merged))
    return float(moved), float(off), float((merged.argmax(-1) == learnt.argmax(-1)).float().mean())


def main(folder: Path) -> None:
    """Print one line for each way of learning and each precision."""
    torch.manual_seed(0)
    print(f"{'adapters':10}{'layers':12}{'tables':8}{'precision':10}{'moved':>10}{'merged':>10}{'same first':>12}")
    with TemporaryDirectory() as root:
        for dtype in ("float32", "bfloat16"):
            stored = stored_as(dtype, folder, Path(root) / dtype)
            for adapters, layers, tables in WAYS:
                given = {"adapters": adapters, "layers": layers, "tables": tables, "dtype": dtype}
                settings = Tuning.model_validate({"model": stored, "lora_rank": 8, "lora_alpha": 8, **given})
                moved, off, same = distances(stored, settings)
                print(f"{adapters:10}{layers:12}{tables:8}{dtype:10}{moved:10.1e}{off:10.1e}{same:12.1%}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/demo/inputs/published"))
