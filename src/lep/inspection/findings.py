"""The folder that is inspected, and what the checks find: facts, remarks and problems."""

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
from lep.io.model_folder import ModelFolder, get_text_config, open_model, read_json
from lep.io.tokenizer_file import TokenizerFile, read_tokenizer

TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model")
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"


@dataclass(frozen=True)
class Fact:
    """A property of the folder, by group and name."""

    group: str
    name: str
    value: str


@dataclass(frozen=True)
class Remark:
    """Something unusual that may be intended."""

    message: str


@dataclass(frozen=True)
class Problem:
    """Something that is wrong."""

    message: str


Finding = Fact | Remark | Problem


@dataclass(frozen=True)
class InspectedFolder:
    """A folder to inspect; each file is read once, on first use."""

    path: Path

    @cached_property
    def contents(self) -> frozenset[str]:
        """`artifact`, `tokenizer`, `model`, each if it is there; `settings` if transformers can find the tokenizer."""
        contents = {
            "artifact": self._has_file(MANIFEST),
            "tokenizer": any(map(self._has_file, TOKENIZER_FILES)),
            "model": self._has_file("config.json"),
            "settings": self._has_file("config.json") or self._has_file(TOKENIZER_CONFIG),
        }
        return frozenset(name for name, exists in contents.items() if exists)

    @cached_property
    def model(self) -> ModelFolder:
        """Configuration and tensor headers; `CheckpointError`: they cannot be read."""
        return open_model(self.path)

    @cached_property
    def tokenizer(self) -> TokenizerFile:
        """The tokenizer of the tokenizer file; `TokenizerError`: it cannot be read."""
        return read_tokenizer(self.path)

    @cached_property
    def transformers_tokenizer(self) -> Any:
        """The tokenizer as transformers loads it; `TokenizerError`: it does not."""
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self.path, local_files_only=True)
        except Exception as error:  # tokenizer classes raise anything
            raise TokenizerError(f"transformers does not load the tokenizer: {summarize_error(error)}") from None

    @cached_property
    def tokenizer_file_ids(self) -> list[int]:
        """Ids of `CHECK_TEXT` from the tokenizer file, without special tokens."""
        return self.tokenizer.tokenizer.encode(CHECK_TEXT, add_special_tokens=False).ids

    @cached_property
    def transformers_ids(self) -> list[int]:
        """Ids of `CHECK_TEXT` from the tokenizer of transformers, without special tokens."""
        return self.transformers_tokenizer.encode(CHECK_TEXT, add_special_tokens=False)

    @property
    def vocabulary_size(self) -> int:
        """Number of ids of the tokenizer; 0 without one."""
        return len(self.tokenizer.vocabulary) if "tokenizer" in self.contents else 0

    def load_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder; return an empty dict if it does not exist."""
        return read_json(self.path / name) if self._has_file(name) else {}

    def _has_file(self, name: str) -> bool:
        return (self.path / name).exists()


def get_language_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration of the language model, which multimodal models nest."""
    return {**config, **get_text_config(config)}


def format_token(id_: int, vocabulary: Vocabulary | None) -> str:
    """Format an id with the text of its token."""
    if vocabulary is None or not 0 <= id_ < len(vocabulary):
        return str(id_)
    return f"{id_} {vocabulary.tokens[id_].decode(errors='backslashreplace')!r}"


def format_tokens(ids: Sequence[int], vocabulary: Vocabulary | None, *, limit: int = 4) -> str:
    """Format the first `limit` ids with their tokens.

    Args:
        ids: Token ids.
        vocabulary: Their tokens; None: ids only.
        limit: Maximum number of ids.

    Returns:
        The ids, separated by commas.
    """
    return ", ".join(format_token(id_, vocabulary) for id_ in ids[:limit]) + (", …" if len(ids) > limit else "")


def format_count(count: int, noun: str) -> str:
    """Format a number with a noun: `1 row`, `2 rows`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def find_first_difference(first: Sequence[Any], second: Sequence[Any]) -> int:
    """Return the index of the first items that differ; the length of the shorter sequence if it is a prefix."""
    shorter = min(len(first), len(second))
    return next((i for i in range(shorter) if first[i] != second[i]), shorter)


def summarize_error(error: Exception) -> str:
    """Format an error of another library in one line of limited length."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}"
