"""Shared fixtures: BPE bases in every form, and the words of the texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from lep.io.tokenizer_file import TokenizerFile, read_tokenizer
from lep.tokenization.word_counts import build_word_splitter

Words = list[tuple[str, int]]


@pytest.fixture(scope="session")
def forms(tokenizers, texts, train_sentencepiece, tmp_path_factory) -> dict[str, TokenizerFile]:
    """BPE bases in each form in which merges can be stored.

    pairs, strings, ignore_merges, tiktoken: byte-level; sentencepiece_bpe, metaspace: as in `tokenizers`; english: a
    SentencePiece file that spells Cyrillic in bytes; user_defined: one with user-defined symbols, letters among them.
    """
    base = read_tokenizer(tokenizers["byte_level"])
    strings, ignore_merges = json.loads(json.dumps([base.tokenizer_json, base.tokenizer_json]))
    strings["model"]["merges"] = [" ".join(merge) for merge in strings["model"]["merges"]]
    ignore_merges["model"]["ignore_merges"] = True
    root = tmp_path_factory.mktemp("forms")
    user_symbols = {"english": [], "user_defined": ["щ", "▁▁", "но", "(", "<|end|>"]}
    for name, symbols in user_symbols.items():
        (root / name).mkdir()
        train_sentencepiece(root / name, texts["en"], kind="bpe", size=345, user_defined_symbols=symbols)
    files = {name: read_tokenizer(folder) for name, folder in _folders(tokenizers, root).items()}
    return files | {
        "pairs": base,
        "strings": TokenizerFile(base.path, strings, base.scheme),
        "ignore_merges": TokenizerFile(base.path, ignore_merges, base.scheme),
    }


def _folders(tokenizers: dict[str, Path], root: Path) -> dict[str, Path]:
    trained = {name: tokenizers[name] for name in ("tiktoken", "sentencepiece_bpe", "metaspace")}
    return trained | {name: root / name for name in ("english", "user_defined")}


@pytest.fixture(scope="session")
def words(texts) -> Callable[..., Words]:
    """`words(base, *languages)`: the words of the texts with their counts, as the base stores them."""

    def count(base: TokenizerFile, *languages: str) -> Words:
        split = build_word_splitter(base)
        counts = Counter(word for language in languages for text in texts[language] for word in split(text))
        return list(counts.items())

    return count
