"""Where the rows of the data sets come from: the hub, at pinned revisions, or a local folder with the same columns.

The local folder has `SET/test.jsonl`, what is asked, and `SET/prompt.jsonl`, the few-shot examples, for each of
`SOURCES`: `export` writes it, to be carried into a closed network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType

from lep.data.records import Record, read_records, write_rows
from lep.errors import DataError
from lep.evaluation.darumeru.subjects import CATEGORIES
from lep.progress import progress

FOLDER_VARIABLE = "DARUMERU_DATA"
SPLITS = ("test", "prompt")
_WORDS = {str: "a text", list: "a list", dict: "an object", int: "a whole number"}
EXAMPLES = 5
"""Few-shot examples that are kept: of a data set, or of each subject of one."""


@dataclass(frozen=True)
class Source:
    """A data set on the hub."""

    repository: str
    revision: str
    files: dict[str, tuple[str, ...]]
    """Of each split, inside the repository."""
    columns: dict[str, type | UnionType]
    """What a row must have, and of which type it is."""


def _darumeru(name: str) -> Source:
    files = {split: (f"data/{name}/{split}.jsonl",) for split in SPLITS}
    outputs = str | list if name == "multiq" else str | int
    columns = {"inputs": str | dict, "outputs": outputs}
    return Source("RefalMachine/darumeru", "aa98587d7c0b7e8e437dba126bb452daa1de386b", files, columns)


_DARUMERU = "multiq parus rcb rwsd use ruopenbookqa ruworldtree rummlu cp_sent_en cp_para_en cp_sent_ru cp_para_ru"
SOURCES = {
    **{name: _darumeru(name) for name in _DARUMERU.split()},
    "rucola": Source(
        "RussianNLP/rucola",
        "b888be04a62148e10ad2a29a22c9c7dbb687ed17",  # converted to parquet: the original is a script
        {"test": ("default/validation/0000.parquet",), "prompt": ("default/train/0000.parquet",)},
        {"sentence": str, "acceptable": int},
    ),
    "mmlu_ru": Source(
        "NLPCoreTeam/mmlu_ru",
        "da4adacc23e34e78d85d0574e088dc112a1933f6",  # converted to parquet: the original is a script
        {
            "test": tuple(f"{subject}/mmlu_ru-test.parquet" for subject in CATEGORIES),
            "prompt": tuple(f"{subject}/mmlu_ru-dev.parquet" for subject in CATEGORIES),
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
    "gazeta": Source(
        "dichspace/daru_treeway_eval",
        "refs/convert/parquet",  # no commit of it is publicly recorded
        {split: (f"default/{split}/0000.parquet",) for split in SPLITS},
        {"text": str, "summary": str, "sentences": list, "labels": list},
    ),
}
"""By the name of the local folder."""


def rows(name: str, *, split: str, folder: str | None = None) -> Iterator[Record]:
    """The rows of a split of a data set, each with the columns that its source asks for.

    Args:
        folder: where the data lie; by default what the environment variable DARUMERU_DATA names; without either, the
            hub is asked.

    Raises:
        DataError: the data cannot be reached or read, hold no rows, or lack a column; names the row and the column.
    """
    local = folder or os.environ.get(FOLDER_VARIABLE)
    found = _local(name, split=split, folder=Path(local)) if local else _hub(name, split=split)
    return _checked(found, name, split=split, where=local or SOURCES[name].repository)


def export(folder: Path) -> None:
    """Fetch every data set from the hub, and write the local folder; what is there already is not fetched again.

    Raises:
        DataError: the hub cannot be reached, or a data set is not as `rows` needs it; what was fetched is kept.
    """
    files = [(name, split, folder / name / f"{split}.jsonl") for name in SOURCES for split in SPLITS]
    left = [one for one in files if not one[2].exists()]
    done = len(files) - len(left)
    with progress("fetching the benchmark", total=len(files), unit="files", done=done) as advance:
        for name, split, file in left:
            file.parent.mkdir(parents=True, exist_ok=True)
            found = _checked(_hub(name, split=split), name, split=split, where=SOURCES[name].repository)
            write_rows(file, (record.row for record in found))
            advance(1)


def _checked(found: Iterator[Record], name: str, *, split: str, where: str) -> Iterator[Record]:
    empty = True
    for record in found:
        empty = False
        _check(record, SOURCES[name].columns, name)
        yield record
    if empty:
        raise DataError(f"{where}: {name} holds no rows of {split}")


def _check(record: Record, columns: Mapping[str, type | UnionType], name: str) -> None:
    for column, kind in columns.items():
        if column not in record.row:
            raise DataError(
                f"{record.place}: no column {column!r}; {name} needs {', '.join(columns)}, "
                f"the row has {', '.join(record.row)}"
            )
        if not isinstance(value := record.row[column], kind):
            told = " or ".join(_WORDS[one] for one in getattr(kind, "__args__", (kind,)))
            raise DataError(f"{record.place}: column {column!r} is {repr(value)[:60]}; {name} needs {told} there")


def _local(name: str, *, split: str, folder: Path) -> Iterator[Record]:
    for suffix in (".jsonl", ".jsonl.gz", ".jsonl.xz", ".parquet"):
        if (file := folder / name / f"{split}{suffix}").exists():
            return read_records(file)
    raise DataError(
        f"{folder / name}: expected {split}.jsonl (or .parquet) there; "
        f"with neither {FOLDER_VARIABLE} nor the setting `data`, it comes from the hub"
    )


def _hub(name: str, *, split: str) -> Iterator[Record]:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    source = SOURCES[name]
    for inside in source.files[split]:
        try:
            file = hf_hub_download(source.repository, inside, repo_type="dataset", revision=source.revision)
        except (OSError, HfHubHTTPError) as error:
            raise DataError(
                f"{source.repository}: {inside} of revision {source.revision} cannot be fetched ({error}); "
                "allow the network with HF_HUB_OFFLINE=0 before the command, or, where there is none, name a folder "
                f"that `lep evaluate --export-data` wrote elsewhere: benchmark.data, or {FOLDER_VARIABLE}"
            ) from None
        subject = inside.partition("/")[0]
        for record in read_records(Path(file)):
            row = record.row if subject not in CATEGORIES else {"subject": subject, **record.row}
            yield Record(row, record.place)
