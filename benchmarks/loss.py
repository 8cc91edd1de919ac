"""The loss over a large vocabulary, forward and backward, by the size of a chunk of logits.

    python benchmarks/loss.py

16,384 tokens on a GPU (128 on a CPU), 174,816 trained rows of 2,048 numbers. Columns: bytes of logits in a chunk;
milliseconds, the fastest of three runs; TFLOP/s of the three products; on a GPU the peak memory in GiB. The last line
is torch's own loss, with all logits in float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from lep.modeling import chunked_cross_entropy as cross_entropy

VOCABULARY, DIM = 174_816, 2048
POWERS = (26, 27, 28, 29, 30, 31)


def seconds(work: Callable[[], object]) -> float:
    """Return the fastest of three runs, after one to warm up."""
    times = []
    for _ in range(4):
        wait()
        started = time.perf_counter()
        work()
        wait()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def wait() -> None:
    """Wait until a GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Print the table."""
    device, tokens = ("cuda", 16_384) if torch.cuda.is_available() else ("cpu", 128)
    torch.manual_seed(0)
    hidden = torch.randn(tokens, DIM, device=device).bfloat16().requires_grad_()
    matrix = (0.02 * torch.randn(VOCABULARY, DIM, device=device)).requires_grad_()
    labels = torch.randint(VOCABULARY, (tokens,), device=device)

    def ours() -> None:
        matrix.grad = None
        rows = matrix.detach().bfloat16()
        cross_entropy.fused_linear_cross_entropy(hidden, rows, labels, parameters=[matrix]).backward()

    def plain() -> None:
        matrix.grad = None
        functional.cross_entropy((hidden @ matrix.bfloat16().T).float(), labels, reduction="sum").backward()

    print(f"{'chunk':>8}{'ms':>9}{'TFLOP/s':>9}{'GiB':>7}")
    for power in POWERS:
        cross_entropy.LOGITS_CHUNK_BYTES = cross_entropy.GPU_LOGITS_CHUNK_BYTES = 2**power
        show(f"2^{power}", ours, tokens=tokens)
    show("plain", plain, tokens=tokens)


def show(name: str, work: Callable[[], object], *, tokens: int) -> None:
    """Print one line."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    elapsed = seconds(work)
    peak = f"{torch.cuda.max_memory_allocated() / 2**30:>7.2f}" if torch.cuda.is_available() else ""
    print(f"{name:>8}{1e3 * elapsed:>9.1f}{6e-12 * tokens * VOCABULARY * DIM / elapsed:>9.2f}{peak}", flush=True)


if __name__ == "__main__":
    main()
