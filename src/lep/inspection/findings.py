"""What a look at a folder finds: facts to read, remarks to think about, problems that should not be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lep.core.vocabulary import Vocabulary
from lep.errors import TokenizerError
from lep.gguf.known_pre_tokenizers import CHECK_TEXT
from lep.io.artifact import MANIFEST
from lep.io.model_folder import ModelFolder, open_model, read_json, text_config
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

TOKENIZERS = ("tokenizer.json", "tokenizer.model")
SETTINGS = "tokenizer_config.json"
GENERATION = "generation_config.json"


@dataclass(frozen=True)
class Fact:
    """Something to know, by group and name."""

    group: str
    name: str
    value: str


@dataclass(frozen=True)
class Remark:
    """Something to think about: it may be meant."""

    words: str


@dataclass(frozen=True)
class Problem:
    """Something that is wrong."""

    words: str


Finding = Fact | Remark | Problem


@dataclass(frozen=True)
class Folder:
    """The folder that is looked at; each file is read once, when it is first asked for."""

    path: Path

    @cached_property
    def holds(self) -> frozenset[str]:
        """Which of `artifact`, `tokenizer`, `model` it is, and `settings` when transformers can tell its tokenizer."""
        there = {
            "artifact": self._has(MANIFEST),
            "tokenizer": any(map(self._has, TOKENIZERS)),
            "model": self._has("config.json"),
            "settings": self._has("config.json") or self._has(SETTINGS),
        }
        return frozenset(name for name, is_there in there.items() if is_there)

    @cached_property
    def model(self) -> ModelFolder:
        """Configuration and tensors; `CheckpointError` when they cannot be read."""
        return open_model(self.path)

    @cached_property
    def tokenizer(self) -> TokenizerFile:
        """The tokenizer as its file states it; `TokenizerError` when it cannot be read."""
        return read_tokenizer(self.path)

    @cached_property
    def loaded(self) -> Any:
        """The tokenizer as transformers loads it.

        Raises:
            TokenizerError: it does not.
        """
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except Exception as error:  # whatever the class of a tokenizer raises
            raise TokenizerError(f"transformers does not load the tokenizer: {first_line(error)}") from None

    @cached_property
    def own_ids(self) -> list[int]:
        """The ids of `CHECK_TEXT` by the tokenizer's file, without special tokens."""
        return self.tokenizer.tokenizer.encode(CHECK_TEXT, add_special_tokens=False).ids

    @cached_property
    def loaded_ids(self) -> list[int]:
        """The same by the tokenizer that transformers loads."""
        return self.loaded.encode(CHECK_TEXT, add_special_tokens=False)

    @property
    def tokens(self) -> int:
        """How many ids its tokenizer uses; 0 without one."""
        return len(self.tokenizer.vocabulary) if "tokenizer" in self.holds else 0

    def json(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder; nothing when it is not there."""
        return read_json(self.path / name) if self._has(name) else {}

    def _has(self, name: str) -> bool:
        return (self.path / name).exists()


def language_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says of the language model; a multimodal one nests that."""
    return {**config, **text_config(config)}


def named(id_: int, vocabulary: Vocabulary | None) -> str:
    """An id with the text of its token."""
    if vocabulary is None or not 0 <= id_ < len(vocabulary):
        return str(id_)
    return f"{id_} {vocabulary.tokens[id_].decode(errors='backslashreplace')!r}"


def few(ids: Sequence[int], vocabulary: Vocabulary | None, *, most: int = 4) -> str:
    """The first of some ids, with their tokens."""
    return ", ".join(named(id_, vocabulary) for id_ in ids[:most]) + (", …" if len(ids) > most else "")


def counted(n: int, noun: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def first_line(error: Exception) -> str:
    """An error of another library in one line, not too long."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
