"""What is known of inputs: by their files, or by the earlier step that will make them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet

from lep.config.data_source import Origin
from lep.data.documents import document_files, file_kind, open_packed
from lep.errors import DataError
from lep.estimation.hardware import Machine
from lep.estimation.meta_model import Sketch
from lep.io.model_folder import read_json, text_config
from lep.io.tokenizer_file import read_tokenizer

PACKED = 3.5
"""Bytes of text in a byte of a packed file."""
_ROW = 500
"""Bytes of a row, where rows cannot be counted quickly."""


@dataclass(frozen=True)
class Known:
    """Shapes of what earlier steps make, by the folder where it will stand."""

    machine: Machine
    models: dict[Path, Sketch] = field(default_factory=dict)
    fresh: dict[Path, float] = field(default_factory=dict)
    """Of an initialized model, the share of its rows that are new."""
    vocabularies: dict[Path, int] = field(default_factory=dict)
    texts: dict[Path, int] = field(default_factory=dict)
    """Bytes of a corpus."""
    unknown: set[Path] = field(default_factory=set)
    """What earlier steps will make, one does not know of which shape."""

    def model(self, folder: Path) -> Sketch:
        """A model by its config.json; `CheckpointError` when that is not there."""
        if folder not in self.models:
            self._require(folder)
            config = text_config(read_json(folder / "config.json"))
            self.models[folder] = Sketch(folder, int(config["vocab_size"]))
        return self.models[folder]

    def vocabulary(self, folder: Path) -> int:
        """Tokens of a tokenizer; of a model's, its rows. `LepError` when neither is there."""
        if folder not in self.vocabularies:
            self._require(folder)
            rows = self.model(folder).rows if (folder / "config.json").exists() else 0
            self.vocabularies[folder] = rows or len(read_tokenizer(folder).vocabulary)
        return self.vocabularies[folder]

    def text(self, corpus: Path) -> int:
        """Bytes of a corpus, or of files of documents; `DataError` when they are not there."""
        self._require(corpus)
        return self.texts[corpus] if corpus in self.texts else size_of([corpus])

    def _require(self, made: Path) -> None:
        if made in self.unknown:
            raise DataError(f"needs {made}, which is not known")


def size_of(paths: Iterable[Path]) -> int:
    """Bytes of the text in files and folders of documents."""
    found = 0
    for path in paths:
        if not path.exists():
            raise DataError(f"{path}: is not there, so its size is not known")
        for file in document_files(path):
            found += round(file.stat().st_size * (PACKED if file.suffix in (".gz", ".xz") else 1))
    return found


def rows_of(origin: Path | Origin) -> int:
    """Rows of files; `DataError` where it is a data set on the hub, whose size nobody here knows."""
    paths = [origin] if isinstance(origin, Path) else origin.files
    if not paths:
        assert isinstance(origin, Origin)
        raise DataError(f"how many rows {origin.dataset} has is not known here")
    size_of(paths)
    return sum(map(_rows, (file for path in paths for file in document_files(path))))


def _rows(file: Path) -> int:
    if file_kind(file) == ".parquet":
        return pyarrow.parquet.read_metadata(file).num_rows
    if file_kind(file) != ".jsonl":
        return max(1, file.stat().st_size // _ROW)
    with open_packed(file) as stream:
        return sum(1 for _ in stream)
