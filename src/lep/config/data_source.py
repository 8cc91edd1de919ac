"""Where data comes from: files, or a data set that `datasets` reads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import field_validator, model_validator

from lep.config.base import How, Settings

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?")


class Origin(Settings):
    """Files, or a data set that `datasets` reads."""

    files: list[Path] | None = None
    """Files of documents: .jsonl (also .gz, .xz), .txt (documents parted by blank lines) or .parquet; a folder stands
    for all such files in it."""
    dataset: str | Path | None = None
    """Instead of files: a data set on the Hugging Face hub (`owner/name`), or a folder that is laid out like one."""
    name: str | None = None
    """The data set's configuration; none: its only or default one."""
    split: str | None = None
    """The data set's split; none: `train`."""
    revision: str | None = None
    """Branch, tag or commit of a data set on the hub; none: the newest, so that a later run may read other text."""
    license: Annotated[str | None, How] = None
    """The text's licence, as the hub calls it (`cc-by-sa-4.0`), for the cards of models that learn from it; none: what
    the card in a data set's folder says."""

    @field_validator("dataset")
    @classmethod
    def _folder_or_id(cls, dataset: str | Path | None) -> str | Path | None:
        """A folder is an input, like a file; an id on the hub is a setting."""
        if isinstance(dataset, str) and Path(dataset).is_dir():
            return Path(dataset)
        if isinstance(dataset, str) and not _HUB_ID.fullmatch(dataset):
            raise ValueError(f"{dataset} is neither a folder that is there nor an id on the hub (owner/name)")
        return dataset

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if bool(self.files) == bool(self.dataset):
            raise ValueError("give either files or dataset")
        if self.files and (self.name or self.split or self.revision):
            raise ValueError("name, split and revision belong to dataset")
        if isinstance(self.dataset, Path) and self.revision:
            raise ValueError("revision belongs to a data set on the hub; a folder has none")
        return self
