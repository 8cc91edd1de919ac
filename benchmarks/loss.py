"""The loss over a large vocabulary, forward and backward, by how many logits are held at a time.

    python benchmarks/loss.py

16,384 tokens on a GPU (128 on a processor), 174,816 rows of 2,048 numbers, all of which learn. Columns: bytes of logits
held, milliseconds, the least of three; tera-operations a second of the three products; on a GPU the most GiB held. The
last line is torch's own, with whole logits in float32.
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
    """The least of three, after one to warm up."""
    found = []
    for _ in range(4):
        wait()
        started = time.perf_counter()
        work()
        wait()
        found.append(time.perf_counter() - started)
    return min(found[1:])


def wait() -> None:
    """Until a GPU has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Print the table."""
    device, tokens = ("cuda", 16_384) if torch.cuda.is_available() else ("cpu", 128)
    torch.manual_seed(0)
    hidden = torch.randn(tokens, DIM, device=device).bfloat16().requires_grad_()
    table = (0.02 * torch.randn(VOCABULARY, DIM, device=device)).requires_grad_()
    labels = torch.randint(VOCABULARY, (tokens,), device=device)

    def ours() -> None:
        table.grad = None
        rows = table.detach().bfloat16()
        cross_entropy.summed_cross_entropy(hidden, rows, labels, parts=[table]).backward()

    def plain() -> None:
        table.grad = None
        functional.cross_entropy((hidden @ table.bfloat16().T).float(), labels, reduction="sum").backward()

    print(f"{'held':>8}{'ms':>9}{'TFLOP/s':>9}{'GiB':>7}")
    for power in POWERS:
        cross_entropy.LOGITS_BYTES = cross_entropy.GPU_LOGITS_BYTES = 2**power
        show(f"2^{power}", ours, tokens=tokens)
    show("plain", plain, tokens=tokens)


def show(name: str, work: Callable[[], object], *, tokens: int) -> None:
    """Print one line."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    took = seconds(work)
    held = f"{torch.cuda.max_memory_allocated() / 2**30:>7.2f}" if torch.cuda.is_available() else ""
    print(f"{name:>8}{1e3 * took:>9.1f}{6e-12 * tokens * VOCABULARY * DIM / took:>9.2f}{held}", flush=True)


if __name__ == "__main__":
    main()
