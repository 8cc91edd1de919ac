"""A Hugging Face model folder as it lies on disk: its configuration, its tensors, and which of them are the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from torch import Tensor

from lep.errors import CheckpointError
from lep.io.families import FAMILIES, TableNames
from lep.io.tensors import Checkpoint, open_checkpoint


@dataclass(frozen=True)
class ModelFolder:
    """A model on disk; no weight is read before it is asked for."""

    path: Path
    config: Mapping[str, Any]
    checkpoint: Checkpoint
    names: TableNames

    @property
    def tied(self) -> bool:
        """Whether one matrix is both tables."""
        return self.names.head not in self.checkpoint.entries

    @property
    def parameters(self) -> int:
        """How many numbers its tensors hold."""
        return sum(prod(entry.shape) for entry in self.checkpoint.entries.values())

    def tables(self) -> dict[str, Tensor]:
        """`embed`, and `head` unless it is the same matrix; memory-mapped."""
        tables = {"embed": self.checkpoint.tensor(self.names.embed)}
        return tables if self.tied else tables | {"head": self.checkpoint.tensor(self.names.head)}


def open_model(path: Path) -> ModelFolder:
    """Read a model folder's configuration and tensor headers.

    Raises:
        CheckpointError: no config.json, an unknown family, no embedding where the family has it, or a head that is
            absent although the configuration says that the tables are not tied.
    """
    config = read_json(path / "config.json")
    family = config.get("model_type", "")
    if family not in FAMILIES:
        raise CheckpointError(f"{path}: model_type {family!r} is not known; known: {', '.join(sorted(FAMILIES))}")
    model = ModelFolder(path=path, config=config, checkpoint=open_checkpoint(path), names=FAMILIES[family])
    if model.names.embed not in model.checkpoint.entries:
        raise CheckpointError(f"{path}: no tensor {model.names.embed!r}, where {family} keeps its embeddings")
    if model.tied and config.get("tie_word_embeddings") is False:
        raise CheckpointError(f"{path}: config.json says untied tables, but there is no {model.names.head!r}")
    return model


def check_rows(model: ModelFolder, *, tokens: int) -> None:
    """`CheckpointError` when a table has fewer rows than the model's tokenizer has tokens."""
    for name, table in model.tables().items():
        if len(table) < tokens:
            raise CheckpointError(
                f"{model.path}: {name} has {len(table)} rows for {tokens} tokens; is that its own tokenizer?"
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; `CheckpointError` when the file is missing or is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is not there; expected a Hugging Face model folder") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path}: expected a JSON object")
    return found


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object as Hugging Face's libraries do."""
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
