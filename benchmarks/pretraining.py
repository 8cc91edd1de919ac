"""Train embeddings: lep against a plain model in transformers' Trainer with the same trained rows.

    python benchmarks/pretraining.py [SHAPE …]        (default: those for this machine)

Each side is a process. On a CPU each has one thread, and they take turns step by step, so that a slow minute affects
all of them; time is CPU time, memory the peak of the process, libraries included. On a GPU one runs after the other;
time is wall time, memory the peak of torch's allocator. The fastest step after the first counts. MFU is relative to
the products of bfloat16 squares that the CPU reached meanwhile, or to the data sheet of the GPU. Weights are random,
token frequencies follow Zipf's law.

Columns: tokens per second, ours over that; memory, ours over that; loss of the last step; MFU. Sides:

- `ours`: `lep.modeling.trainable_embeddings.TrainableEmbeddings`, embeddings in float32 under bfloat16 layers.
- `compiled`: the same with `pretrain.torch_compile=true`; on a GPU only.
- `bfloat16`: the plain model in bfloat16, embeddings and moments too: fastest, but small steps are rounded away.
- `autocast`: the plain model in float32 with the Trainer's `bf16=True`: the precision of ours.

Where only new rows are trained, a plain model can only set the gradient of the old ones to zero.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

SIDES = ("ours", "bfloat16", "autocast")
GPU_SIDES = ("ours", "compiled", "bfloat16", "autocast")
STEPS = 4
NO_MEMORY = "out of memory"


@dataclass(frozen=True)
class Shape:
    """A Llama; `batch` samples in a pass, two passes in a step."""

    layers: int
    vocabulary: int
    new_rows: int
    length: int
    dim: int = 576
    heads: int = 9
    key_heads: int = 3
    inner: int = 1536
    batch: int = 4
    tied: bool = True

    @property
    def tokens(self) -> int:
        """In a step."""
        return PASSES * self.batch * self.length


PASSES = 2
EXTENDED: dict[str, Any] = {"vocabulary": 174_816, "new_rows": 46_560}
"""The paper's extended vocabulary of LLaMa-3."""

SHAPES = {
    "SmolLM2-135M, 52k": Shape(layers=30, vocabulary=52_152, new_rows=3_000, length=256),
    "4 layers, 175k": Shape(layers=4, length=512, **EXTENDED),
    "the same, longer": Shape(layers=4, length=1024, **EXTENDED),
}
"""For a CPU: the demo's; few layers, and those with the paper's sequence length (takes 16 GB)."""

GPU_SHAPES = {
    "1B, 175k": Shape(16, length=1024, dim=2048, heads=32, key_heads=8, inner=8192, batch=16, **EXTENDED),
    "8B, 175k": Shape(32, length=1024, dim=4096, heads=32, key_heads=8, inner=14336, tied=False, **EXTENDED),
}
"""For a GPU of 80 GB: the shapes of Llama-3.2-1B and LLaMa-3-8B."""


def trained_model(shape: Shape, side: str, *, trained_rows: int) -> Any:
    """Random weights, the same for each side; the last `trained_rows` rows of the embeddings are trained."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from lep.modeling.trainable_layers import TrainableLayers
    from lep.modeling.trainable_model import TrainableModel

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=shape.vocabulary,
        hidden_size=shape.dim,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_heads,
        tie_word_embeddings=shape.tied,
    )
    attention = "sdpa" if torch.cuda.is_available() else "eager"
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    old = shape.vocabulary - trained_rows
    if side in ("ours", "compiled"):
        trainable = TrainableModel.with_split_embeddings(
            model, TrainableLayers(), new_ids=torch.arange(old, shape.vocabulary), train_old_rows=False
        )
        for layer in trainable.decoder_layers if side == "compiled" else ():
            layer.compile()
        return trainable
    model = (model.float() if side == "autocast" else model).requires_grad_(False)
    for table in {model.get_input_embeddings().weight, model.get_output_embeddings().weight}:
        table.requires_grad_()
        if old:
            table.register_hook(lambda gradient: gradient.index_fill(0, torch.arange(old, device=gradient.device), 0))
    return model


def samples(shape: Shape) -> Any:
    """Tokens by Zipf's law."""
    import torch

    frequencies = 1 / torch.arange(10, shape.vocabulary + 10)
    ranks = torch.multinomial(frequencies, STEPS * shape.tokens, replacement=True)
    ids = torch.randperm(shape.vocabulary)[ranks].view(-1, shape.length)
    return [{"input_ids": row, "attention_mask": torch.ones_like(row), "labels": row} for row in ids]


def child(shape: Shape, side: str, *, trained_rows: int) -> None:
    """Train one side; the start and each step wait for a line; print the seconds of each step and a report."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    class Turns(TrainerCallback):
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            self.started = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(clock() - self.started, flush=True)

    torch.set_num_threads(1)
    sys.stdin.readline()
    model = trained_model(shape, side, trained_rows=trained_rows)
    module = model.module if side in ("ours", "compiled") else model
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            max_steps=STEPS,
            per_device_train_batch_size=shape.batch,
            gradient_accumulation_steps=PASSES,
            learning_rate=1e-3,
            lr_scheduler_type="constant",
            weight_decay=0.0,
            bf16=side == "autocast",
            use_cpu=not torch.cuda.is_available(),
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = Trainer(model=module, args=arguments, train_dataset=samples(shape), callbacks=[Turns()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    report = {"loss": losses[-1], "bytes": memory()}
    if side == "ours":
        report["flops"] = model.flops_per_token(sequence_length=shape.length)
    print(json.dumps(report))


def run_child(shape: Shape, side: str, *, trained_rows: int) -> None:
    """Run `child`, and report when memory runs out."""
    import torch

    try:
        child(shape, side, trained_rows=trained_rows)
    except torch.OutOfMemoryError:
        print(NO_MEMORY, flush=True)


def clock() -> float:
    """CPU seconds, or wall seconds when the GPU is idle."""
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def memory() -> int:
    """Peak memory in bytes."""
    import torch

    resident = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident


def peak() -> float:
    """FLOPs per second of bfloat16 products: measured on a CPU, of the data sheet on a GPU."""
    import torch

    from lep.modeling.device_specs import get_peak_flops

    if torch.cuda.is_available():
        return get_peak_flops(torch.device("cuda"), torch.bfloat16)
    torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    started = time.process_time()
    a @ b
    return 2 * 2048**3 / (time.process_time() - started)


Processes = dict[str, subprocess.Popen[str]]
"""By side; each waits for a line before it builds its model."""


def start(name: str, *, trained_rows: int) -> Processes:
    """Start all sides; they import libraries while others run."""
    command = [sys.executable, __file__, "--child", name]
    return {
        side: subprocess.Popen(
            [*command, side, str(trained_rows)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for side in (GPU_SIDES if shapes() is GPU_SHAPES else SIDES)
    }


def steps(processes: Processes) -> tuple[dict[str, list[float]], dict[str, Any], float]:
    """Return the seconds of each step, taken in turns, each side's report, and the peak FLOPs per second.

    A side that runs out of memory has no report.
    """
    seconds: dict[str, list[float]] = {side: [] for side in processes}
    best, running = peak(), dict(processes)
    for process in running.values():
        send_line(process)
    for _ in range(STEPS):
        for side, process in list(running.items()):
            send_line(process)
            if (line := process.stdout.readline().strip()) == NO_MEMORY:  # pyright: ignore[reportOptionalMemberAccess]
                del running[side]
            else:
                seconds[side].append(float(line))
            best = max(best, peak())
    reports = {side: json.loads(process.stdout.readline()) for side, process in running.items() if process.stdout}
    for process in processes.values():
        process.wait()
    return seconds, reports, best


def send_line(process: subprocess.Popen[str]) -> None:
    """Write a line to a process, if it still runs."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()


def compare(name: str, processes: Processes, *, trained_rows: int, at_once: bool) -> None:
    """Print a line for each side."""
    seconds: dict[str, list[float]] = {}
    reports: dict[str, Any] = {}
    best = 0.0
    for turn in [processes] if at_once else [{side: process} for side, process in processes.items()]:
        turn_seconds, turn_reports, reached = steps(turn)
        seconds, reports, best = seconds | turn_seconds, reports | turn_reports, max(best, reached)
    rates = {side: shapes()[name].tokens / min(steps[1:]) for side, steps in seconds.items() if side in reports}
    for side in processes:
        line = f"{name:<20}{trained_rows:>9,}  {side:<10}"
        if rate := rates.get(side):
            num_bytes, mfu = reports[side]["bytes"], rate * reports["ours"]["flops"] / best
            line += f"{rate:>9.0f}{rates['ours'] / rate:>7.2f}{num_bytes / 2**30:>8.2f}"
            line += f"{reports['ours']['bytes'] / num_bytes:>7.2f}{reports[side]['loss']:>9.4f}{mfu:>7.0%}"
        print(line if rate else line + NO_MEMORY.rjust(20), flush=True)


def shapes() -> dict[str, Shape]:
    """Return the shapes for this machine."""
    import torch

    return GPU_SHAPES if torch.cuda.is_available() else SHAPES


def main(names: list[str]) -> None:
    """Print the table."""
    known = shapes()
    print(f"{'shape':<20}{'rows':>9}  {'side':<10}{'rate':>9}{'ours':>7}{'GiB':>8}{'ours':>7}{'loss':>9}{'MFU':>7}")
    runs = [(name, known[name].vocabulary) for name in names or known]
    runs += [(name, known[name].new_rows) for name in names or known]
    started = ((name, rows, start(name, trained_rows=rows)) for name, rows in runs)
    for name, rows, processes in started if known is SHAPES else list(started):
        compare(name, processes, trained_rows=rows, at_once=known is SHAPES)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(shapes()[sys.argv[2]], sys.argv[3], trained_rows=int(sys.argv[4]))
    else:
        main(sys.argv[1:])
