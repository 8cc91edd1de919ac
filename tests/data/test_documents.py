"""Documents of every format are streamed; invalid ones are counted, not lost."""

from __future__ import annotations

import gzip
import json
import lzma
import re
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from lep.data.documents import (
    SkippedDocument,
    list_document_files,
    read_dataset_documents,
    read_documents,
    read_excerpt,
    take_characters,
)
from lep.errors import DataError

DOCUMENTS = ["Первый документ.\nДве строки.", "second", "третий 😀"]
OPENERS = {
    "": Path.write_bytes,
    ".gz": lambda p, b: p.write_bytes(gzip.compress(b)),
    ".xz": lambda p, b: p.write_bytes(lzma.compress(b)),
}


@pytest.mark.parametrize("packed", OPENERS)
@pytest.mark.parametrize("kind", [".jsonl", ".txt"])
def test_every_format_gives_the_documents(tmp_path: Path, kind: str, packed: str) -> None:
    lines = [json.dumps({"text": text}) for text in DOCUMENTS]
    content = "\n".join(lines) if kind == ".jsonl" else "\n" + "\n \n\n".join(DOCUMENTS) + "\n"
    file = tmp_path / f"a.v2{kind}{packed}"
    OPENERS[packed](file, content.encode())
    assert list(read_documents(file)) == DOCUMENTS


def test_parquet_gives_the_documents_of_a_column(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"id": [1, 2, 3], "body": ["one", None, "три"]}), file)
    assert list(read_documents(file, field="body")) == ["one", SkippedDocument("no text in 'body'"), "три"]
    with pytest.raises(DataError, match=r"a.parquet: no column 'text'; it has: id, body"):
        list(read_documents(file))


def test_invalid_lines_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(
        b'{"text": "good"}\n{broken\n{"text": 3}\n["text"]\n{"other": "x"}\n{"text": "\xff"}\n{"text": ""}\n'
    )
    reasons = ["not JSON", "no text in 'text'", "no text in 'text'", "no text in 'text'", "invalid UTF-8"]
    assert list(read_documents(file)) == ["good", *map(SkippedDocument, reasons), ""]


def test_a_paragraph_that_is_not_text_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("один\n\n".encode() + b"\xff\n\ntwo")
    assert list(read_documents(tmp_path / "a.txt")) == ["один", SkippedDocument("invalid UTF-8"), "two"]


def test_documents_are_streamed(tmp_path: Path) -> None:
    """The first document comes before a later break in the file is met."""
    file = tmp_path / "a.jsonl.gz"
    line = json.dumps({"text": "x" * 100}) + "\n"
    packed = gzip.compress(b"".join(line.encode() + str(i).encode() * 50 + b"\n" for i in range(5000)))
    file.write_bytes(packed[: len(packed) // 2])
    assert next(iter(read_documents(file))) == "x" * 100


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.txt.xz", "a.jsonl.xz", "a.txt.gz", "a.parquet"])
@pytest.mark.parametrize("damage", ["truncated", "other"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    file, content = tmp_path / name, b'{"text": "one"}\n' * 100
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.table({"text": ["one"] * 9}), file)
    else:
        OPENERS[file.suffix](file, content)
    file.write_bytes(file.read_bytes()[:-9] if damage == "truncated" else b"something else that is long enough")
    with pytest.raises(DataError, match=name):
        list(read_documents(file))


def test_missing_files_and_unknown_formats_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere.jsonl: no such file"):
        list(read_documents(tmp_path / "nowhere.jsonl"))
    (tmp_path / "a.csv").touch()
    with pytest.raises(DataError, match=r"a.csv: expected .jsonl"):
        list(read_documents(tmp_path / "a.csv"))


def test_a_folder_gives_its_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b.jsonl", "a.v2.txt.gz", "c/a.parquet", "c/README.md", ".cache/d.jsonl", "e.csv"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_document_files(tmp_path) == [
        tmp_path / "a.v2.txt.gz",
        tmp_path / "b.jsonl",
        tmp_path / "c" / "a.parquet",
    ]
    assert list_document_files(tmp_path / "e.csv") == [tmp_path / "e.csv"]
    with pytest.raises(DataError, match=r".cache.nothing: no files of documents in this folder; expected .jsonl"):
        (tmp_path / ".cache" / "nothing").mkdir()
        list_document_files(tmp_path / ".cache" / "nothing")


def dataset(folder: Path) -> Path:
    for configuration, text in {"news": "новость", "prose": "рассказ"}.items():
        (folder / configuration).mkdir(parents=True)
        rows = [{"id": i, "text": f"{text} {i}\n\nвторой абзац"} for i in range(3)]
        (folder / configuration / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    configurations = "".join(
        f"  - config_name: {name}\n    data_files: {name}/train.jsonl\n" for name in ("news", "prose")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configurations}---\n")
    return folder


def test_a_dataset_gives_the_documents_of_a_configuration(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set")
    documents = list(read_dataset_documents(folder, name="prose", split="train", revision=None))
    assert documents == [f"рассказ {i}\n\nвторой абзац" for i in range(3)]
    assert (
        list(read_dataset_documents(folder, name="news", split="train", revision=None, field="id"))
        == [SkippedDocument("no text in 'id'")] * 3
    )


def test_rows_of_a_dataset_without_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "train-0.jsonl").write_text('{"text": "one"}\n{"other": 1}\n')
    (tmp_path / "train-1.jsonl").write_text('{"other": 2}\n')
    documents = list(read_dataset_documents(tmp_path, name=None, split="train", revision=None))
    assert documents == ["one", *[SkippedDocument("no text in 'text'")] * 2]


def test_a_dataset_on_the_hub_is_streamed_in_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a stream, by the library's own code: nothing is trusted."""
    import datasets

    calls: list[object] = []

    def load_dataset(*args: object, **kwargs: object) -> datasets.IterableDataset:
        calls.extend((args, kwargs))
        return datasets.Dataset.from_dict({"id": [1], "text": ["один"]}).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert list(read_dataset_documents("owner/name", name="ru", split="test", revision="abc")) == ["один"]
    assert calls == [("owner/name", "ru"), {"split": "test", "revision": "abc", "streaming": True}]


def test_a_dataset_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    folder = dataset(tmp_path / "set")
    for name, file in {"empty": "README.md", "hollow": "train.jsonl", "code": "code.py"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    for place, changes, message in [
        (folder, {"name": None}, r"set: cannot be read as a dataset \(.*pick one.*news.*prose"),
        (folder, {"name": "verse"}, r"set: cannot be read .*'verse' not found.*news.*prose"),
        (folder, {"split": "test"}, r"set: cannot be read .*Bad split: test. Available splits: \['train'\]"),
        (folder, {"field": "body"}, r"set: no column 'body'; it has: id, text"),
        (tmp_path / "empty", {}, r"empty: cannot be read as a dataset"),
        (tmp_path / "hollow", {"name": None}, r"hollow: holds no rows"),
        (tmp_path / "code", {"name": None}, r"code: cannot be read as a dataset \(Dataset scripts are no longer"),
    ]:
        with pytest.raises(DataError, match=re.compile(message, re.DOTALL)):
            list(read_dataset_documents(place, **{"name": "news", "split": "train", "revision": None} | changes))  # type: ignore[arg-type]


def test_an_unreachable_dataset_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets
    import huggingface_hub

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match=r"owner/name: .*HF_HUB_OFFLINE=0.*--repo-type dataset owner/name") as error:
        list(read_dataset_documents("owner/name", name=None, split="train", revision=None))
    assert "name that folder" in str(error.value)


def test_an_excerpt_is_the_beginning_of_all_files_without_invalid_documents(tmp_path: Path) -> None:
    first, second, empty = tmp_path / "a.txt", tmp_path / "b.jsonl", tmp_path / "c.jsonl"
    first.write_text("eins\n\nzwei\n")
    second.write_text('{"text": "  "}\nno\n{"text": "drei"}\n{"text": "vier"}\n')
    empty.touch()
    documents, skipped = read_excerpt([first, second], max_characters=10)
    assert documents == ["eins", "zwei", "dr"]
    assert skipped == {"not JSON": 1}
    with pytest.raises(DataError, match=r"c\.jsonl: no documents; the file is empty"):
        read_excerpt([empty], max_characters=10)
    empty.write_text("no\n")
    with pytest.raises(DataError, match=r"c\.jsonl: no documents \(1 × not JSON\)"):
        read_excerpt([empty], max_characters=10)


@pytest.mark.parametrize(
    ("max_characters", "expected"), [(1, ["a"]), (2, ["ab"]), (3, ["ab", "c"]), (4, ["ab", "cd"]), (9, ["ab", "cd"])]
)
def test_the_first_characters_of_documents(max_characters: int, expected: list[str]) -> None:
    """No empty document follows one that ends exactly at the bound."""
    assert list(take_characters(["ab", "cd"], max_characters=max_characters)) == expected
