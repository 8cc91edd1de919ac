"""Settings of where data comes from: files, or a data set."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import field_validator, model_validator

from lep.config.base import RuntimeOnly, Settings

_HUB_ID_PATTERN = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class DataSource(Settings):
    """Files, or a data set that `datasets` reads."""

    files: list[Path] | None = None
    """Files of documents: .jsonl (also .gz, .xz), .txt (documents separated by blank lines) or .parquet; a folder means
    all such files in it."""
    dataset: str | Path | None = None
    """Instead of files: a data set on the Hugging Face hub (`owner/name`), or a folder with the layout of one."""
    name: str | None = None
    """Configuration of the data set; None: its only or default one."""
    split: str | None = None
    """Split of the data set; None: `train`."""
    revision: str | None = None
    """Branch, tag or commit of a data set on the hub; None: the newest, so that a later run may read other text."""
    license: Annotated[str | None, RuntimeOnly] = None
    """License of the text by its name on the hub (`cc-by-sa-4.0`), for the cards of models trained on it; None: what
    the card in the data set's folder says."""

    @field_validator("dataset")
    @classmethod
    def _parse_dataset(cls, dataset: str | Path | None) -> str | Path | None:
        """Make a folder a path, which is an input; an id on the hub stays a string."""
        if isinstance(dataset, str) and Path(dataset).is_dir():
            return Path(dataset)
        if isinstance(dataset, str) and not _HUB_ID_PATTERN.fullmatch(dataset):
            raise ValueError(f"{dataset} is neither an existing folder nor an id on the hub (owner/name)")
        return dataset

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if bool(self.files) == bool(self.dataset):
            raise ValueError("give either files or dataset")
        if self.files and (self.name or self.split or self.revision):
            raise ValueError("name, split and revision belong to dataset")
        if isinstance(self.dataset, Path) and self.revision:
            raise ValueError("revision belongs to a data set on the hub; a folder has none")
        return self
