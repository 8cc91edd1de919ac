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
from lep.evaluation.darumeru.datasets import SOURCES, export, rows
from lep.evaluation.darumeru.documents import documents
from lep.progress import listen


@pytest.fixture
def hub(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """A hub that has the tiny data sets; what was asked of it."""
    asked: list[tuple[str, str, str]] = []
    names = {source.files[split]: name for name, source in SOURCES.items() for split in source.files}

    def download(repository: str, inside: str, *, repo_type: str, revision: str) -> str:
        assert repo_type == "dataset"
        asked.append((repository, inside, revision))
        files, name = next((files, name) for files, name in names.items() if inside in files)
        split = next(split for split in SOURCES[name].files if SOURCES[name].files[split] == files)
        lines = (Path(data) / name / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
        kept = [json.loads(line) for line in lines]
        if name == "mmlu_ru":  # on the hub the subject is the folder
            kept = [row for row in kept if row.pop("subject") == inside.split("/")[0]]
        file = tmp_path / "hub" / inside.replace(".parquet", ".jsonl")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
        return str(file)

    monkeypatch.delenv("DARUMERU_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_what_is_exported_reads_as_what_the_hub_has(hub, tmp_path: Path, data: str) -> None:
    export(tmp_path / "carried")
    assert len(hub) == sum(len(files) for source in SOURCES.values() for files in source.files.values())
    for name in TASKS:
        carried = documents(task=name, data=str(tmp_path / "carried"))
        written = documents(task=name, data=data)
        for split in ("test", "prompt"):
            drop = {"pair"}  # names the file
            a, b = ([{k: v for k, v in d.items() if k not in drop} for d in docs[split]] for docs in (carried, written))
            assert sorted(a, key=str) == sorted(b, key=str), name  # subjects come in the order of their names


def test_the_command_exports_with_the_network_on(hub, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    folder = tmp_path / "carried"
    assert main(["evaluate", "--export-data", str(folder), "block=2"]) == 2
    assert "takes no settings; found block=2" in capsys.readouterr().err and not folder.exists()
    assert main(["evaluate", "--export-data", str(folder)]) == 0
    assert os.environ["HF_HUB_OFFLINE"] == "0"
    assert {path.name for path in folder.iterdir()} == set(SOURCES)
    assert f"say benchmark.data={folder}" in capsys.readouterr().out
    listen(None)


def test_an_interrupted_export_goes_on_with_the_file_that_broke(hub, tmp_path: Path, monkeypatch) -> None:
    download = huggingface_hub.hf_hub_download

    def breaks(repository: str, inside: str, **how: str) -> str:
        if inside.startswith("data/rcb/prompt"):
            raise LocalEntryNotFoundError("the cable")
        return download(repository, inside, **how)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", breaks)
    with pytest.raises(DataError, match=r"rcb/prompt.*\(the cable\)"):
        export(tmp_path / "carried")
    assert (tmp_path / "carried/rcb/test.jsonl").exists() and not (tmp_path / "carried/rcb/prompt.jsonl").exists()
    first = len(hub)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    export(tmp_path / "carried")
    files = [file for source in SOURCES.values() for split in source.files.values() for file in split]
    assert len(hub) == len(files) and hub[first][1] == "data/rcb/prompt.jsonl"
    assert not list((tmp_path / "carried").glob("*/*.partial"))


def test_what_is_exported_is_looked_at(hub, tmp_path: Path, monkeypatch) -> None:
    strange = tmp_path / "strange.jsonl"
    strange.write_text('{"question": "?"}\n')
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_, **__: str(strange))
    with pytest.raises(DataError, match=r"strange.jsonl:1: no column 'inputs'; multiq needs inputs, outputs"):
        export(tmp_path / "carried")


def test_the_hub_is_asked_for_a_pinned_revision(hub) -> None:
    assert len(list(rows("parus", split="test"))) == 5
    assert hub == [("RefalMachine/darumeru", "data/parus/test.jsonl", "aa98587d7c0b7e8e437dba126bb452daa1de386b")]


def test_a_hub_out_of_reach_tells_of_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise LocalEntryNotFoundError("offline")

    monkeypatch.delenv("DARUMERU_DATA", raising=False)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(
        DataError, match=r"RefalMachine/darumeru: data/parus.* \(offline\); allow the network .* or DARUMERU_DATA"
    ):
        list(rows("parus", split="test"))


def test_a_data_set_that_is_not_in_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parus: expected test.jsonl \(or .parquet\) there"):
        list(rows("parus", split="test", folder=str(tmp_path)))


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "parus").mkdir()
    (tmp_path / "parus/test.jsonl").write_text("")
    with pytest.raises(DataError, match="parus holds no rows of test"):
        list(rows("parus", split="test", folder=str(tmp_path)))
