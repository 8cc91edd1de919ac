"""Fused against eager attention on this CPU: tokens per second of CPU time, forward and backward.

python benchmarks/attention.py [MODEL_FOLDER]     (default: the demo's published model)
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

from lep.modeling.trainable_embeddings import TrainableEmbeddings

SHAPES = ((8, 256), (16, 70), (2, 1024))


def cpu_seconds(model: TrainableEmbeddings, *, batch: int, length: int) -> float:
    """Return the fastest of three steps."""
    ids = torch.randint(0, 1000, (batch, length))
    seconds = []
    for _ in range(3):
        started = time.process_time()
        model(ids, torch.ones_like(ids), labels=ids).loss.backward()
        seconds.append(time.process_time() - started)
    return min(seconds)


def main(folder: Path) -> None:
    """Print a line for each shape."""
    torch.set_num_threads(1)
    rates: dict[str, list[float]] = {}
    for attention in ("sdpa", "eager"):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=attention)
        embeddings = TrainableEmbeddings(model, new_ids=torch.arange(model.config.vocab_size))
        rates[attention] = [b * n / cpu_seconds(embeddings, batch=b, length=n) for b, n in SHAPES]
    print(f"{'samples × tokens':18}{'fused':>8}{'eager':>8}{'ratio':>8}")
    for i, (batch, length) in enumerate(SHAPES):
        fused, eager = rates["sdpa"][i], rates["eager"][i]
        print(f"{f'{batch} × {length}':18}{fused:8.0f}{eager:8.0f}{eager / fused:8.2f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/demo/inputs/published"))
