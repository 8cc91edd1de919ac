"""The paper's vocabularies at the paper's sizes on your text: symbols per token next to the paper's.

    python benchmarks/paper_vocabularies.py LLAMA3 MISTRAL TEXT

LLAMA3 and MISTRAL are tokenizer folders, TEXT a file of documents (.jsonl). The paper's text was another (tens of
gigabytes of Wikipedia, news, fiction, forums), so its column is only a guide. Source: arXiv 2412.21140.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lep.config import RetokenizeSettings
from lep.io.tokenizer_file import read_tokenizer
from lep.results.stages import RetokenizationResult
from lep.stages import retokenize

PAPER: dict[str, dict[str, tuple[float, dict[str, int]]]] = {
    "LLaMa-3": {
        "original": (2.89, {}),
        "bpe": (4.40, {"vocab_size": 128_000}),
        "unigram": (4.35, {"vocab_size": 128_000}),
        "extended": (3.78, {"new_tokens": 46_560}),
        "optimized": (3.40, {"kept_tokens": 64_000, "new_tokens": 50_504}),
    },
    "Mistral": {
        "original": (2.44, {}),
        "bpe": (3.76, {"vocab_size": 32_000}),
        "unigram": (3.78, {"vocab_size": 32_000}),
        "extended": (3.77, {"new_tokens": 23_328}),
    },
}
"""Symbols per token in the paper, and the size; `new_tokens` where tokenizer files differ in their special tokens."""


def main(llama3: Path, mistral: Path, text: Path) -> None:
    """Print the table."""
    print(f"{'':<20}{'tokens':>9}{'kept':>9}{'symbols/token':>15}{'paper':>7}{'seconds':>9}")
    for name, base in {"LLaMa-3": llama3, "Mistral": mistral}.items():
        for kind, (paper, size) in PAPER[name].items():
            if not size:
                continue
            started = time.perf_counter()
            result = _retokenize({"base": base, "corpus": text, "kind": kind, **size})
            seconds = time.perf_counter() - started
            change = next(iter(result.characters_per_token.values()))
            if kind == "bpe":
                tokens = len(read_tokenizer(base).vocabulary)
                original = PAPER[name]["original"][0]
                print(f"{name + ' original':<20}{tokens:>9,}{tokens:>9,}{change.before:>15.2f}{original:>7.2f}")
            row = f"{name + ' ' + kind:<20}{result.vocab_size:>9,}{result.kept_tokens:>9,}"
            print(f"{row}{change.after:>15.2f}{paper:>7.2f}{seconds:>9.0f}", flush=True)


def _retokenize(values: dict[str, Any]) -> RetokenizationResult:
    with tempfile.TemporaryDirectory() as folder:
        return retokenize.run(RetokenizeSettings.model_validate(values), Path(folder))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
