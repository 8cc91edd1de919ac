"""Shapes and sizes of inputs, from their files or from the earlier step that will make them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet

from lep.config.data_source import DataSource
from lep.data.documents import list_document_files, open_decompressed, uncompressed_suffix
from lep.errors import DataError
from lep.estimation.hardware import Machine
from lep.estimation.meta_model import MetaModel
from lep.io.lora_adapter import is_adapter
from lep.io.model_folder import get_text_config, read_json
from lep.io.tokenizer_file import read_tokenizer

COMPRESSION_RATIO = 3.5
"""Size of text over that of its compressed file."""
_BYTES_PER_ROW = 500
"""Assumed where rows cannot be counted quickly."""


@dataclass(frozen=True)
class OutputInfo:
    """Shape of the result of a stage, in what later stages need."""

    text_bytes: int | None = None
    """Size of a corpus."""
    vocabulary_size: int | None = None
    """Tokens of a tokenizer."""
    meta_model: MetaModel | None = None
    new_row_fraction: float = 1.0
    """Fraction of the rows of an initialized model that are new."""


@dataclass(frozen=True)
class InputInfo:
    """The machine, and the shapes of inputs: results of earlier steps, or files that exist."""

    machine: Machine
    outputs: Mapping[Path, OutputInfo | None] = field(default_factory=dict)
    """Results of earlier steps, by folder; None: the step could not be estimated."""

    def get_output(self, path: Path) -> OutputInfo:
        """Return the result of an earlier step; one without known shapes if no step makes it.

        Args:
            path: Its folder.

        Returns:
            The shape of the result.

        Raises:
            DataError: The step could not be estimated.
        """
        output = self.outputs.get(path, OutputInfo())
        if output is None:
            raise DataError(f"needs {path}, which could not be estimated")
        return output

    def get_meta_model(self, folder: Path, *, adapter_base: Path | None = None) -> MetaModel:
        """Return a model by its config.json, or from the earlier step that makes it.

        Args:
            folder: A model folder.
            adapter_base: If `folder` is a LoRA adapter, the model that it was trained on.

        Returns:
            The model, without weights.
        """
        if adapter_base is not None and folder.exists() and is_adapter(folder):
            folder = adapter_base
        if meta_model := self.get_output(folder).meta_model:
            return meta_model
        return MetaModel(folder, int(get_text_config(read_json(folder / "config.json"))["vocab_size"]))

    def get_vocabulary_size(self, folder: Path) -> int:
        """Return the number of tokens of a tokenizer; of a model, the number of rows."""
        output = self.get_output(folder)
        if output.vocabulary_size is not None:
            return output.vocabulary_size
        if output.meta_model or (folder / "config.json").exists():
            return self.get_meta_model(folder).vocab_size
        return len(read_tokenizer(folder).vocabulary)

    def get_text_bytes(self, corpus: Path) -> int:
        """Return the size of a corpus, or of files of documents."""
        text_bytes = self.get_output(corpus).text_bytes
        return compute_text_bytes([corpus]) if text_bytes is None else text_bytes


def compute_text_bytes(paths: Iterable[Path]) -> int:
    """Compute the size of the text in files and folders of documents.

    Args:
        paths: Files and folders.

    Returns:
        The number of bytes; estimated for compressed files.

    Raises:
        DataError: A path does not exist.
    """
    total = 0
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} does not exist, so its size is not known")
        for file in list_document_files(path):
            total += round(file.stat().st_size * (COMPRESSION_RATIO if file.suffix in (".gz", ".xz") else 1))
    return total


def count_rows(source: Path | DataSource) -> int:
    """Count the rows of files.

    Args:
        source: A file, a folder, or a source with files.

    Returns:
        The number of rows; estimated for text files.

    Raises:
        DataError: The source is a data set on the hub, or a path does not exist.
    """
    paths = [source] if isinstance(source, Path) else source.files
    if not paths:
        assert isinstance(source, DataSource)
        raise DataError(f"the number of rows of {source.dataset} is not known")
    compute_text_bytes(paths)
    return sum(map(_count_file_rows, (file for path in paths for file in list_document_files(path))))


def _count_file_rows(file: Path) -> int:
    if uncompressed_suffix(file) == ".parquet":
        return pyarrow.parquet.read_metadata(file).num_rows
    if uncompressed_suffix(file) != ".jsonl":
        return max(1, file.stat().st_size // _BYTES_PER_ROW)
    with open_decompressed(file) as stream:
        return sum(1 for _ in stream)
