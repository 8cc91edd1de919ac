"""Training the tables: ours beside transformers' plain Trainer with the same set of rows that learn.

    python benchmarks/pretraining.py [SHAPE …]        (default: those for this machine)

Every side is a process of its own. On a processor each has one thread, and they take turns step by step, so that a slow
minute meets them all; seconds are of the processor, memory is the most that the process ever held, libraries included.
On a GPU one runs after the other; seconds are of the clock, memory is what torch held there. Of seconds the least of
the steps after the first counts. Utilisation counts the products that the model needs over what the machine can do: on
a processor, what a product of bfloat16 squares reached meanwhile; on a GPU, what its vendor says. Weights are random,
tokens follow Zipf's law.

Columns: tokens a second, ours over that; memory, ours over that; loss of the last step; utilisation. Sides:

- `ours`: `lep.modeling.trainable_embeddings.TrainableTables`, tables in float32 under bfloat16 layers.
- `compiled`: the same with `pretrain.compile=true`; on a GPU alone.
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
EXTENDED = {"vocabulary": 174_816, "new_rows": 46_560}
"""The paper's extended vocabulary of LLaMa-3."""

SHAPES = {
    "SmolLM2-135M, 52k": Shape(layers=30, vocabulary=52_152, new_rows=3_000, length=256),
    "4 layers, 175k": Shape(layers=4, length=512, **EXTENDED),
    "the same, longer": Shape(layers=4, length=1024, **EXTENDED),
}
"""For a processor: the demo's; few layers, and those in the paper's blocks (takes 16 GB)."""

GPU_SHAPES = {
    "1B, 175k": Shape(16, length=1024, dim=2048, heads=32, key_heads=8, inner=8192, batch=16, **EXTENDED),
    "8B, 175k": Shape(32, length=1024, dim=4096, heads=32, key_heads=8, inner=14336, tied=False, **EXTENDED),
}
"""For a GPU of 80 GB: the shapes of Llama-3.2-1B and LLaMa-3-8B."""


def trained_model(shape: Shape, side: str, *, learning: int) -> Any:
    """Random weights, the same for each side; the last `learning` rows of the table learn."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from lep.modeling.trainable_embeddings import TrainableTables
    from lep.modeling.trainable_layers import decoder_layers

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
    old = shape.vocabulary - learning
    if side in ("ours", "compiled"):
        for layer in decoder_layers(model) if side == "compiled" else ():
            layer.compile()
        return TrainableTables(model, new_rows=torch.arange(old, shape.vocabulary), old_rows_learn=False)
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


def child(shape: Shape, side: str, *, learning: int) -> None:
    """Train one side; all waits for a line, and so does each step, which answers with its seconds; then all is told."""
    import torch
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    from lep.modeling.flops import operations_per_token

    class Turns(TrainerCallback):
        started = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            sys.stdin.readline()
            self.started = clock()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            print(clock() - self.started, flush=True)

    torch.set_num_threads(1)
    sys.stdin.readline()
    model = trained_model(shape, side, learning=learning)
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
        trainer = Trainer(model=model, args=arguments, train_dataset=samples(shape), callbacks=[Turns()])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    told = {"loss": losses[-1], "bytes": memory()}
    if side == "ours":
        told["operations"] = operations_per_token(model, block=shape.length)
    print(json.dumps(told))


def run_child(shape: Shape, side: str, *, learning: int) -> None:
    """`child`, which may find memory to be short."""
    import torch

    try:
        child(shape, side, learning=learning)
    except torch.OutOfMemoryError:
        print(NO_MEMORY, flush=True)


def clock() -> float:
    """Seconds: of the processor, or of the clock when the GPU has done what it was given."""
    import torch

    if not torch.cuda.is_available():
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def memory() -> int:
    """The most bytes that were held."""
    import torch

    held = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return torch.cuda.max_memory_allocated() if torch.cuda.is_available() else held


def peak() -> float:
    """Operations a second of bfloat16 products: of a second of the processor, or of the GPU as its vendor says."""
    import torch

    from lep.modeling.device_specs import peak_operations_per_second

    if torch.cuda.is_available():
        return peak_operations_per_second(torch.device("cuda"), torch.bfloat16)
    torch.set_num_threads(1)
    a, b = torch.randn(2, 2048, 2048).bfloat16()
    started = time.process_time()
    a @ b
    return 2 * 2048**3 / (time.process_time() - started)


Processes = dict[str, subprocess.Popen[str]]
"""By side; each waits for a line before it makes its model."""


def started(name: str, *, learning: int) -> Processes:
    """All sides; what they import, they import while others run."""
    command = [sys.executable, __file__, "--child", name]
    return {
        side: subprocess.Popen(
            [*command, side, str(learning)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for side in (GPU_SIDES if shapes() is GPU_SHAPES else SIDES)
    }


def steps(processes: Processes) -> tuple[dict[str, list[float]], dict[str, Any], float]:
    """Seconds of each step and what each side told at the end, step by step in turns; and the machine's best.

    A side for which memory is short tells nothing.
    """
    seconds: dict[str, list[float]] = {side: [] for side in processes}
    best, left = peak(), dict(processes)
    for process in left.values():
        go_on(process)
    for _ in range(STEPS):
        for side, process in list(left.items()):
            go_on(process)
            if (said := process.stdout.readline().strip()) == NO_MEMORY:  # pyright: ignore[reportOptionalMemberAccess]
                del left[side]
            else:
                seconds[side].append(float(said))
            best = max(best, peak())
    told = {side: json.loads(process.stdout.readline()) for side, process in left.items() if process.stdout}
    for process in processes.values():
        process.wait()
    return seconds, told, best


def go_on(process: subprocess.Popen[str]) -> None:
    """Write a line to a process, if it is still there."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.write("\n")
        process.stdin.flush()


def compare(name: str, processes: Processes, *, learning: int, at_once: bool) -> None:
    """Print a line for each side."""
    seconds: dict[str, list[float]] = {}
    told: dict[str, Any] = {}
    best = 0.0
    for turn in [processes] if at_once else [{side: process} for side, process in processes.items()]:
        more, found, reached = steps(turn)
        seconds, told, best = seconds | more, told | found, max(best, reached)
    rates = {side: shapes()[name].tokens / min(taken[1:]) for side, taken in seconds.items() if side in told}
    for side in processes:
        line = f"{name:<20}{learning:>9,}  {side:<10}"
        if rate := rates.get(side):
            held, used = told[side]["bytes"], rate * told["ours"]["operations"] / best
            line += f"{rate:>9.0f}{rates['ours'] / rate:>7.2f}{held / 2**30:>8.2f}"
            line += f"{told['ours']['bytes'] / held:>7.2f}{told[side]['loss']:>9.4f}{used:>7.0%}"
        print(line if rate else line + NO_MEMORY.rjust(20), flush=True)


def shapes() -> dict[str, Shape]:
    """Those for this machine."""
    import torch

    return GPU_SHAPES if torch.cuda.is_available() else SHAPES


def main(names: list[str]) -> None:
    """Print the table."""
    known = shapes()
    print(f"{'shape':<20}{'rows':>9}  {'side':<10}{'rate':>9}{'ours':>7}{'GiB':>8}{'ours':>7}{'loss':>9}{'used':>7}")
    wanted = [(name, known[name].vocabulary) for name in names or known]
    wanted += [(name, known[name].new_rows) for name in names or known]
    made = ((name, rows, started(name, learning=rows)) for name, rows in wanted)
    for name, rows, processes in made if known is SHAPES else list(made):
        compare(name, processes, learning=rows, at_once=known is SHAPES)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        run_child(shapes()[sys.argv[2]], sys.argv[3], learning=int(sys.argv[4]))
    else:
        main(sys.argv[1:])
