"""Measure the cost of the filters of `collect`: processor time, and memory for each kept document.

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
    "equal documents": ({}, {"near_duplicate_threshold": None}),
    "near duplicates": ({}, {}),
    "language": ({"language": True}, {"near_duplicate_threshold": None}),
}
"""Settings of the source, whose values are replaced by the language, and of the stage."""


def measure(file: str, language: str, variant: str) -> tuple[float, float, int]:
    """Return the seconds of processor time, the peak memory in bytes, and the kept documents of one run."""
    from lep.config import CollectSettings
    from lep.stages.collect import run

    source_options, options = VARIANTS[variant]
    source: dict[str, Any] = {"files": [file]} | dict.fromkeys(source_options, language)
    with tempfile.TemporaryDirectory() as out:
        started = time.process_time()
        result = run(CollectSettings.model_validate({"sources": {language: source}} | options), Path(out))
        seconds = time.process_time() - started
    collected = result.languages[language]
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return seconds, peak, collected.documents_train + collected.documents_heldout


def main(file: Path, language: str) -> None:
    """Print one line for each variant: the first drops only equal documents, each other has one more filter."""
    size = file.stat().st_size
    print(f"{'drops':18}{'seconds':>9}{'MB/s':>8}{'peak MiB':>10}{'kept':>9}{'extra bytes a kept document':>29}")
    base = 0.0
    for variant in VARIANTS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, peak, kept = pool.apply(measure, (str(file), language, variant))
        base = base or peak
        extra = f"{(peak - base) / kept:,.0f}" if variant == "near duplicates" else ""
        print(f"{variant:18}{seconds:9.2f}{size / seconds / 1e6:8.1f}{peak / 2**20:10.0f}{kept:9,}{extra:>29}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo/inputs/ru.jsonl"), (sys.argv[2:] or ["ru"])[0])
