"""Data sets come from the hub or from an exported folder, and are checked."""

from __future__ import annotations

import json
import os
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from lep.cli.main import main
from lep.errors import DataError
from lep.evaluation.darumeru.aggregation import TASKS
from lep.evaluation.darumeru.datasets import HUB_DATASETS, download_datasets, read_dataset_rows
from lep.evaluation.darumeru.documents import load_documents
from lep.progress import set_listener


@pytest.fixture
def hub(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """A hub with the tiny data sets; returns the requests."""
    requests: list[tuple[str, str, str]] = []
    names = {dataset.files[split]: name for name, dataset in HUB_DATASETS.items() for split in dataset.files}

    def download(repository: str, path: str, *, repo_type: str, revision: str) -> str:
        assert repo_type == "dataset"
        requests.append((repository, path, revision))
        files, name = next((files, name) for files, name in names.items() if path in files)
        split = next(split for split in HUB_DATASETS[name].files if HUB_DATASETS[name].files[split] == files)
        lines = (Path(data) / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if name == "mmlu_ru":  # on the hub the subject is the folder
            rows = [row for row in rows if row.pop("subject") == path.split("/")[0]]
        file = tmp_path / "hub" / path.replace(".parquet", ".jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return str(file)

    monkeypatch.delenv("DARUMERU_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return requests


def test_an_exported_folder_has_the_rows_of_the_hub(hub, tmp_path: Path, data: str) -> None:
    download_datasets(tmp_path / "exported")
    assert len(hub) == sum(len(files) for dataset in HUB_DATASETS.values() for files in dataset.files.values())
    for name in TASKS:
        exported = load_documents(task=name, data=str(tmp_path / "exported"))
        expected = load_documents(task=name, data=data)
        for split in ("test", "prompt"):
            drop = {"pair_id"}  # contains the path of the file
            a, b = (
                [{k: v for k, v in d.items() if k not in drop} for d in docs[split]] for docs in (exported, expected)
            )
            assert sorted(a, key=str) == sorted(b, key=str), name  # subjects come in the order of their names


def test_the_command_exports_with_the_network_on(hub, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = tmp_path / "exported"
    assert main(["evaluate", "--download-data", str(folder), "sequence_length=2"]) == 2
    assert "takes no settings; found sequence_length=2" in capsys.readouterr().err and not folder.exists()
    assert main(["evaluate", "--download-data", str(folder)]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert {path.name for path in folder.iterdir()} == set(HUB_DATASETS)
    assert f"use benchmark.data={folder}" in capsys.readouterr().out
    set_listener(None)


def test_an_interrupted_export_resumes_with_the_file_that_failed(hub, tmp_path: Path, monkeypatch) -> None:
    download = huggingface_hub.hf_hub_download

    def fail(repository: str, path: str, **options: str) -> str:
        if path.startswith("data/rcb/prompt"):
            raise LocalEntryNotFoundError("no network")
        return download(repository, path, **options)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(DataError, match=r"rcb/prompt.*\(no network\)"):
        download_datasets(tmp_path / "exported")
    assert (tmp_path / "exported/rcb/test.jsonl").exists() and not (tmp_path / "exported/rcb/prompt.jsonl").exists()
    first = len(hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    download_datasets(tmp_path / "exported")
    files = [file for dataset in HUB_DATASETS.values() for split in dataset.files.values() for file in split]
    assert len(hub) == len(files) and hub[first][1] == "data/rcb/prompt.jsonl"
    assert not list((tmp_path / "exported").glob("*/*.partial"))


def test_exported_rows_are_checked(hub, tmp_path: Path, monkeypatch) -> None:
    invalid = tmp_path / "invalid.jsonl"
    invalid.write_text('{"question": "?"}\n')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(invalid))
    with pytest.raises(DataError, match=r"invalid.jsonl:1: no column 'inputs'; multiq needs inputs, outputs"):
        download_datasets(tmp_path / "exported")


def test_a_pinned_revision_is_downloaded(hub) -> None:
    assert len(list(read_dataset_rows("parus", split="test"))) == 5
    assert hub == [("RefalMachine/darumeru", "data/parus/test.jsonl", "aa98587d7c0b7e8e437dba126bb452daa1de386b")]


def test_without_network_the_error_names_the_local_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.delenv("DARUMERU_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        DataError,
        match=r"RefalMachine/darumeru: data/parus.* \(offline\); allow the network .* benchmark.data or DARUMERU_DATA",
    ):
        list(read_dataset_rows("parus", split="test"))


def test_a_data_set_that_is_missing_in_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parus: expected test.jsonl \(or .parquet\) there"):
        list(read_dataset_rows("parus", split="test", folder=str(tmp_path)))


def test_an_empty_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "parus").mkdir()
    (tmp_path / "parus/test.jsonl").write_text("")
    with pytest.raises(DataError, match="parus has no rows of test"):
        list(read_dataset_rows("parus", split="test", folder=str(tmp_path)))
