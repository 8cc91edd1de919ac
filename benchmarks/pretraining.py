"""Training the tables: ours beside transformers' plain Trainer with the same set of rows that learn.

    python benchmarks/pretraining.py [SHAPE …]        (default: all of SHAPES)

Every side is a process of its own with one thread, and they take turns step by step, so that a slow minute meets them
all. Seconds are of the processor, the least of the steps after the first. Memory is the most that a process ever held,
libraries included. Utilisation counts the products that the model needs over what one product of bfloat16 squares
reached meanwhile. Weights are random, tokens follow Zipf's law.

Columns: tokens a second, ours over that; memory, ours over that; loss of the last step; utilisation. Sides:

- `ours`: `lep.engine.tables.TrainableTables`, tables in float32 under bfloat16 layers.
- `bfloat16`: the plain model all in bfloat16, tables and moments too: fastest, though small steps are rounded away.
- `autocast`: the plain model in float32 under the Trainer's `bf16=True`: the precision of ours.

For `new rows` a plain model can only cancel the gradient of the old ones.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

SIDES = ("ours", "bfloat16", "autocast")
BATCH, ACCUMULATED, STEPS = 4, 2, 4


@dataclass(frozen=True)
class Shape:
    """A tied Llama."""

    layers: int
    vocabulary: int
    new_rows: int
    length: int
    dim: int = 576
    heads: int = 9
    key_heads: int = 3
    inner: int = 1536

    @property
    def tokens(self) -> int:
        """In a step."""
        return BATCH * ACCUMULATED * self.length

    def operations(self, *, learning: int) -> int:
        """Products a token takes, forward and backward, times two: frozen matrices get no gradient."""
        attention = 2 * self.dim * self.dim * (1 + self.key_heads / self.heads)
        layer = 2 * 2 * (attention + 3 * self.dim * self.inner) + 3 * 4 * self.length * self.dim
        return int(self.layers * layer) + 2 * self.dim * (2 * self.vocabulary + learning)


SHAPES = {
    "SmolLM2-135M, 52k": Shape(layers=30, vocabulary=52_152, new_rows=3_000, length=256),
    "4 layers, 175k": Shape(layers=4, vocabulary=174_816, new_rows=46_560, length=512),
    "the same, longer": Shape(layers=4, vocabulary=174_816, new_rows=46_560, length=1024),
}
"""The demo's; the paper's extended vocabulary of LLaMa-3 over few layers, and in the paper's blocks (takes 16 GB)."""


def trained_model(shape: Shape, side: str, *, learning: int) -> Any:
    """Random weights, the same for each side; the last `learning` rows of the table learn."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from lep.engine.tables import TrainableTables

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.dim,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        tie_word_embeddings=True,
    )
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="eager")
    old = shape.vocabulary - learning
    if side == "ours":
        return TrainableTables(model, new_rows=torch.arange(old, shape.vocabulary), old_rows_learn=False)
    model = (model.float() if side == "autocast" else model).requires_grad_(False)
    table = model.get_input_embeddings().weight.requires_grad_()
    if old:
        table.register_hook(lambda gradient: gradient.index_fill(0, torch.arange(old), 0))
    return model


def samples(shape: Shape) -> Any:
    """Tokens by Zipf's law."""
    import torch

    frequencies = 1 / torch.arange(10, shape.vocabulary + 10)
    ranks = torch.multinomial(frequencies, STEPS * shape.tokens, replacement=True)
    ids = torch.randperm(shape.vocabulary)[ranks].view(-1, shape.length)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]


def child(shape: Shape, side: str, *, learning: int) -> None:
    """Train one side; each step waits for a line and answers with its seconds, the last line sums up."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            self.started = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(time.process_time() - self.started, flush=True)

    torch.set_num_threads(1)
    model = trained_model(shape, side, learning=learning)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATED,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=side == "autocast",
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=model, args=arguments, train_dataset=samples(shape), callbacks=[Turns()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    print(json.dumps({"loss": losses[-1], "bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))


def peak() -> float:
    """Operations a second of processor time in a product of bfloat16 squares."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    started = time.process_time()
    a @ b
    return 2 * 2048**3 / (time.process_time() - started)


def compare(name: str, *, learning: int) -> None:
    """Print a line for each side."""
    sides = {
        side: subprocess.Popen(
            [sys.executable, __file__, "--child", name, side, str(learning)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for side in SIDES
    }
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    best = peak()
    for _ in range(STEPS):
        for side, process in sides.items():
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            seconds[side].append(float(process.stdout.readline()))
            best = max(best, peak())
    found = {side: json.loads(process.stdout.readline()) for side, process in sides.items() if process.stdout}
    rates = {side: SHAPES[name].tokens / min(taken[1:]) for side, taken in seconds.items()}
    for side, rate in rates.items():
        memory, used = found[side]["bytes"], rate * SHAPES[name].operations(learning=learning) / best
        print(
            f"{name:<20}{learning:>9,}  {side:<10}{rate:>9.0f}{rates['ours'] / rate:>7.2f}{memory / 2**30:>8.2f}"
            f"{found['ours']['bytes'] / memory:>7.2f}{found[side]['loss']:>9.4f}{used:>7.0%}",
            flush=True,
        )


def main(names: list[str]) -> None:
    """Print the table."""
    print(f"{'shape':<20}{'rows':>9}  {'side':<10}{'rate':>9}{'ours':>7}{'GiB':>8}{'ours':>7}{'loss':>9}{'used':>7}")
    for name in names or SHAPES:
        for learning in (SHAPES[name].vocabulary, SHAPES[name].new_rows):
            compare(name, learning=learning)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(SHAPES[sys.argv[2]], sys.argv[3], learning=int(sys.argv[4]))
    else:
        main(sys.argv[1:])
