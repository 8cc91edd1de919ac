"""Read the rows of the data sets: from the hub, at pinned revisions, or from a local folder with the same columns.

The local folder has `SET/test.jsonl`, the questions, and `SET/prompt.jsonl`, the few-shot examples, for each of
`HUB_DATASETS`. `download_datasets` writes it, for machines without network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType

from lep.data.records import Record, read_records, write_jsonl
from lep.errors import DataError
from lep.evaluation.darumeru.subjects import SUBJECT_CATEGORIES
from lep.progress import track_progress

DATA_FOLDER_VARIABLE = "DARUMERU_DATA"
SPLITS = ("test", "prompt")
_TYPE_NAMES = {str: "a text", list: "a list", dict: "an object", int: "a whole number"}
NUM_FEWSHOT_EXAMPLES = 5
"""Few-shot examples that are kept of a data set, or of each of its subjects."""


@dataclass(frozen=True)
class HubDataset:
    """A data set on the hub."""

    repo_id: str
    revision: str
    files: dict[str, tuple[str, ...]]
    """Paths in the repository, by split."""
    columns: dict[str, type | UnionType]
    """Required columns and their types."""


def _build_darumeru_dataset(name: str) -> HubDataset:
    files = {split: (f"data/{name}/{split}.jsonl",) for split in SPLITS}
    outputs = str | list if name == "multiq" else str | int
    columns = {"inputs": str | dict, "outputs": outputs}
    return HubDataset("RefalMachine/darumeru", "aa98587d7c0b7e8e437dba126bb452daa1de386b", files, columns)


_DARUMERU_NAMES = (
    "multiq parus rcb rwsd use ruopenbookqa ruworldtree rummlu cp_sent_en cp_para_en cp_sent_ru cp_para_ru"
)
HUB_DATASETS = {
    **{name: _build_darumeru_dataset(name) for name in _DARUMERU_NAMES.split()},
    "rucola": HubDataset(
        "RussianNLP/rucola",
        "b888be04a62148e10ad2a29a22c9c7dbb687ed17",  # converted to parquet: the original is a script
        {"test": ("default/validation/0000.parquet",), "prompt": ("default/train/0000.parquet",)},
        {"sentence": str, "acceptable": int},
    ),
    "mmlu_ru": HubDataset(
        "NLPCoreTeam/mmlu_ru",
        "da4adacc23e34e78d85d0574e088dc112a1933f6",  # converted to parquet: the original is a script
        {
            "test": tuple(f"{subject}/mmlu_ru-test.parquet" for subject in SUBJECT_CATEGORIES),
            "prompt": tuple(f"{subject}/mmlu_ru-dev.parquet" for subject in SUBJECT_CATEGORIES),
        },
        {
            "subject": str,
            "question_ru": str,
            "choices_ru": list,
            "question_en": str,
            "choices_en": list,
            "answer": int,
        },
    ),
    "gazeta": HubDataset(
        "dichspace/daru_treeway_eval",
        "refs/convert/parquet",  # no commit of it is publicly recorded
        {split: (f"default/{split}/0000.parquet",) for split in SPLITS},
        {"text": str, "summary": str, "sentences": list, "labels": list},
    ),
}
"""By the name of the folder in a local copy."""


def read_dataset_rows(name: str, *, split: str, folder: str | None = None) -> Iterator[Record]:
    """Read the rows of a split of a data set, and check their columns.

    Args:
        name: One of `HUB_DATASETS`.
        split: `test` or `prompt`.
        folder: A local copy; by default the one that the environment variable DARUMERU_DATA names. Without either, the
            rows come from the hub.

    Returns:
        The rows.

    Raises:
        DataError: The data cannot be downloaded or read, hold no rows, or lack a column.
    """
    local = folder or os.environ.get(DATA_FOLDER_VARIABLE)
    records = _read_local_rows(name, split=split, folder=Path(local)) if local else _read_hub_rows(name, split=split)
    return _check_rows(records, name, split=split, location=local or HUB_DATASETS[name].repo_id)


def download_datasets(folder: Path) -> None:
    """Download all data sets into a local folder; files that exist are not downloaded again.

    Args:
        folder: Created if it does not exist.

    Raises:
        DataError: The hub cannot be reached, or a data set lacks rows or columns; finished files are kept.
    """
    files = [(name, split, folder / name / f"{split}.jsonl") for name in HUB_DATASETS for split in SPLITS]
    remaining = [item for item in files if not item[2].exists()]
    completed = len(files) - len(remaining)
    with track_progress("downloading the benchmark", total=len(files), unit="files", completed=completed) as advance:
        for name, split, file in remaining:
            file.parent.mkdir(parents=True, exist_ok=True)
            records = _read_hub_rows(name, split=split)
            records = _check_rows(records, name, split=split, location=HUB_DATASETS[name].repo_id)
            write_jsonl(file, (record.row for record in records))
            advance(1)


def _check_rows(records: Iterator[Record], name: str, *, split: str, location: str) -> Iterator[Record]:
    empty = True
    for record in records:
        empty = False
        _check_columns(record, HUB_DATASETS[name].columns, name)
        yield record
    if empty:
        raise DataError(f"{location}: {name} has no rows of {split}")


def _check_columns(record: Record, columns: Mapping[str, type | UnionType], name: str) -> None:
    for column, column_type in columns.items():
        if column not in record.row:
            raise DataError(
                f"{record.place}: no column {column!r}; {name} needs {', '.join(columns)}, "
                f"the row has {', '.join(record.row)}"
            )
        if not isinstance(value := record.row[column], column_type):
            expected = " or ".join(_TYPE_NAMES[item] for item in getattr(column_type, "__args__", (column_type,)))
            raise DataError(f"{record.place}: column {column!r} is {repr(value)[:60]}; {name} needs {expected} there")


def _read_local_rows(name: str, *, split: str, folder: Path) -> Iterator[Record]:
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.xz", ".parquet"):
        if (file := folder / name / f"{split}{suffix}").exists():
            return read_records(file)
    raise DataError(
        f"{folder / name}: expected {split}.jsonl (or .parquet) there; "
        f"without {DATA_FOLDER_VARIABLE} and the setting `data` it is downloaded from the hub"
    )


def _read_hub_rows(name: str, *, split: str) -> Iterator[Record]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    dataset = HUB_DATASETS[name]
    for path in dataset.files[split]:
        try:
            file = hf_hub_download(dataset.repo_id, path, repo_type="dataset", revision=dataset.revision)
        except (OSError, HfHubHTTPError) as error:
            raise DataError(
                f"{dataset.repo_id}: {path} of revision {dataset.revision} cannot be downloaded ({error}); "
                "allow the network with HF_HUB_OFFLINE=0 before the command. On a machine without network, set "
                f"benchmark.data or {DATA_FOLDER_VARIABLE} to a folder made by `lep evaluate --download-data` elsewhere"
            ) from None
        subject = path.partition("/")[0]
        for record in read_records(Path(file)):
            row = record.row if subject not in SUBJECT_CATEGORIES else {"subject": subject, **record.row}
            yield Record(row, record.place)
