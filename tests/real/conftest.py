"""Real tokenizers, from the folder in LEP_REAL_TOKENIZERS (default build/real); see fetch.sh."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from lep.core.vocabulary import VocabularyMap
from lep.io.tokenizer_file import TokenizerFile, map_vocabularies, read_tokenizer

FOLDER = Path(os.environ.get("LEP_REAL_TOKENIZERS") or Path(__file__).parents[2] / "build" / "real")


class Real:
    """Tokenizers and maps by name, each read or built once; a test that needs a missing one is skipped."""

    @cache  # noqa: B019 (one object per session)
    def tokenizer(self, name: str) -> TokenizerFile:
        if not (FOLDER / name).is_dir():
            pytest.skip(f"no {FOLDER / name}: fetch the real tokenizers with `sh tests/real/fetch.sh`")
        return read_tokenizer(FOLDER / name)

    @cache  # noqa: B019
    def map(self, old: str, new: str) -> VocabularyMap:
        return map_vocabularies(self.tokenizer(old), self.tokenizer(new))


@pytest.fixture(scope="session")
def real() -> Real:
    return Real()


@pytest.fixture(scope="session")
def lines() -> list[str]:
    """Two thousand lines, Russian and English, of the demo's text where it exists; else a few."""
    import json
    from itertools import islice

    lines = ["Старый профессор прочитал 1234 страницы.", "The naïve café — “quoted” 3.14 €, 😀!", "  a\tb  c"]
    inputs = Path(__file__).parents[2] / "build" / "demo" / "inputs"
    for file in (inputs / "ru.jsonl", inputs / "en.jsonl"):
        if file.exists():
            with file.open(encoding="utf-8") as stream:
                texts = [json.loads(line)["text"] for line in islice(stream, 20_000, 21_000)]
            lines += [part for text in texts for part in text.split("\n") if part][:1000]
    return lines
