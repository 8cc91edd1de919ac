"""What the filters of `collect` cost: time, and memory for each document that is kept.

python benchmarks/collect.py [FILE] [LANGUAGE]     (default: the demo's Russian text)
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "equal documents": ({}, {"near_duplicates": None}),
    "near duplicates": ({}, {}),
    "language": ({"language": True}, {"near_duplicates": None}),
}


def measure(file: str, language: str, variant: str) -> tuple[float, float, int]:
    """Seconds of processor time, peak of the process in bytes, and kept documents of one run."""
    from lep.config import Collect
    from lep.stages.collect import run

    more, changes = VARIANTS[variant]
    source: dict[str, Any] = {"files": [file]} | dict.fromkeys(more, language)
    with tempfile.TemporaryDirectory() as out:
        started = time.process_time()
        numbers = run(Collect.model_validate({"sources": {language: source}} | changes), Path(out))
        seconds = time.process_time() - started
    found = numbers["languages"][language]
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return seconds, peak, found["documents_train"] + found["documents_heldout"]


def main(file: Path, language: str) -> None:
    """Print one line for each variant: the first drops equal documents alone, each other one thing more."""
    size = file.stat().st_size
    print(f"{'drops':18}{'seconds':>9}{'MB/s':>8}{'peak MiB':>10}{'kept':>9}{'bytes more a kept document':>28}")
    base = 0.0
    for variant in VARIANTS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak, kept = pool.apply(measure, (str(file), language, variant))
        base = base or peak
        more = f"{(peak - base) / kept:,.0f}" if variant == "near duplicates" else ""
        print(f"{variant:18}{seconds:9.2f}{size / seconds / 1e6:8.1f}{peak / 2**20:10.0f}{kept:9,}{more:>28}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo/inputs/ru.jsonl"), (sys.argv[2:] or ["ru"])[0])
