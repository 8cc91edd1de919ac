"""A corpus is clean, without duplicates, split by content, and says what was dropped and why."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from pydantic import ValidationError

from lep.config import CollectSettings, get_input_paths, map_paths
from lep.data.corpus import list_corpus_languages, read_corpus_documents
from lep.errors import DataError, UsageError
from lep.progress import set_listener


def write(file: Path, documents: list[Any]) -> Path:
    lines = [
        document if isinstance(document, bytes) else json.dumps({"text": document}).encode() for document in documents
    ]
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file


def settings(file: Path, *, script: str | None = None, **changes: Any) -> CollectSettings:
    return collect({"files": [file], "script": script}, **changes)


def collect(source: dict[str, Any], **changes: Any) -> CollectSettings:
    """The sentences of the tests are alike on purpose: near duplicates stay, unless a test asks for it."""
    return CollectSettings.model_validate(
        {"sources": {"ru": source}, "heldout_fraction": 0.2, "near_duplicate_threshold": None} | changes
    )


def read_splits(out: Path) -> tuple[list[str], list[str]]:
    return list(read_corpus_documents(out, "ru", "train")), list(read_corpus_documents(out, "ru", "heldout"))


def read_corpus(out: Path) -> list[str]:
    train, heldout = read_splits(out)
    return train + heldout


def dataset(folder: Path, **splits: list[str | None]) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for split, documents in splits.items():
        table = pyarrow.table({"id": list(range(len(documents))), "body": documents})
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def test_every_document_is_kept_once_or_dropped_for_a_reason(texts, run_stage, tmp_path) -> None:
    good = texts["ru"][:80]
    bad = ["кратко", texts["en"][0], good[0], b"{not json", b'{"other": 1}', b'{"text": "\\ud800' + b"x" * 50 + b'"}']
    file = write(tmp_path / "a.jsonl", [*good, *bad])
    result = run_stage(settings(file, script="Cyrillic"), tmp_path / "out").languages["ru"]
    train, heldout = read_splits(tmp_path / "out")
    assert sorted(train + heldout) == sorted(set(good))
    reasons = {"too short", "wrong script", "duplicate", "not JSON", "no text in 'text'", "invalid UTF-8"}
    assert result.dropped.keys() == reasons
    assert result.documents_train + result.documents_heldout + sum(result.dropped.values()) == len(good + bad)
    assert result.documents_read == len(good + bad)
    assert result.characters_heldout == sum(map(len, heldout))
    assert list_corpus_languages(tmp_path / "out") == ["ru"]


def test_the_heldout_split_depends_on_text_and_seed_alone(texts, run_stage, tmp_path) -> None:
    sentences = sorted(set(texts["ru"][:100]))
    forward, backward = write(tmp_path / "a.jsonl", sentences), write(tmp_path / "b.jsonl", [*sentences[::-1], "мало"])
    run_stage(settings(forward), tmp_path / "forward")
    run_stage(settings(backward), tmp_path / "backward")
    run_stage(settings(forward, seed=1), tmp_path / "seed")
    assert set(read_splits(tmp_path / "forward")[1]) == set(read_splits(tmp_path / "backward")[1])
    assert set(read_splits(tmp_path / "forward")[1]) != set(read_splits(tmp_path / "seed")[1])


def test_control_characters_are_removed_and_the_rest_stays(run_stage, texts, tmp_path) -> None:
    text = "  Строка\u0000 с\tтабуляцией\n  и отступом\u0007, «ёлки» — \u00a0конец 😀 " + texts["ru"][0] + " \n"
    run_stage(settings(write(tmp_path / "a.jsonl", [text, *texts["ru"][:60]])), tmp_path / "out")
    cleaned = text.replace("\u0000", "").replace("\u0007", "").strip()
    train, heldout = read_splits(tmp_path / "out")
    assert cleaned in train + heldout


def test_line_breaks_are_normalized_in_every_format(run_stage, texts, tmp_path) -> None:
    one, two = texts["ru"][:2]
    files = [tmp_path / "a.jsonl", tmp_path / "b.parquet", tmp_path / "c.txt"]
    write(files[0], [f"{one}\n\n{two}\r\n\r\nв", f"{one}\r{two}\u2028г", f"{one}\f{two}\u0085д", *texts["ru"][2:60]])
    pyarrow.parquet.write_table(pyarrow.table({"text": [f"{one}\n{two}\n\nе"]}), files[1])
    files[2].write_bytes(f"{one}\r\n{two}\r\n\r\n".encode())
    run_stage(collect({"files": files}), tmp_path / "out")
    train, heldout = read_splits(tmp_path / "out")
    kept = set(train + heldout)
    assert {f"{one}\n\n{two}\n\nв", f"{one}\n{two}\u2028г", f"{one}\n{two}\nд", f"{one}\n{two}\n\nе"} <= kept
    assert f"{one}\n{two}" in kept


def test_the_first_of_near_duplicates_is_kept_and_no_twin_is_in_the_other_split(texts, run_stage, tmp_path) -> None:
    different = [" ".join(f"{word}{i}" for word in " ".join(texts["ru"][5 * i : 5 * i + 5]).split()) for i in range(60)]
    twins = [f"{text} Источник: сайт №{i}" for i, text in enumerate(different)]
    file = write(tmp_path / "a.jsonl", [*different, *twins, different[0], twins[1].upper()])
    result = run_stage(settings(file, near_duplicate_threshold=0.8), tmp_path / "out").languages["ru"]
    assert sorted(read_corpus(tmp_path / "out")) == sorted(different)
    assert result.dropped == {"near duplicate": 61, "duplicate": 1}
    run_stage(settings(file), tmp_path / "all")
    assert len(read_corpus(tmp_path / "all")) == 121
    train = set(read_splits(tmp_path / "all")[0])
    assert any((one in train) != (two in train) for one, two in zip(different, twins, strict=True))  # without it


def test_only_text_of_the_language_is_kept(texts, run_stage, tmp_path) -> None:
    ukrainian = "Українська мова належить до східнослов'янської групи, її вивчають у школі."
    kazakh = "Қазақстан Республикасы — Орталық Азиядағы мемлекет, астанасы — Астана қаласы."
    file = write(tmp_path / "a.jsonl", [ukrainian, kazakh, texts["en"][0], *texts["ru"][:40]])
    result = run_stage(collect({"files": [file], "language": "ru"}), tmp_path / "out").languages["ru"]
    assert set(read_corpus(tmp_path / "out")) == set(texts["ru"][:40])
    assert result.dropped["wrong language"] == 3


def test_an_unknown_language_is_refused_before_any_work(tmp_path) -> None:
    from lep.stages.collect import run

    with pytest.raises(
        UsageError, match=r"sources.ru.language: 'rus' is not .*; similar: .*\bru\b.*; known: .*\ben, eo\b"
    ):
        run(collect({"files": [tmp_path / "nowhere.jsonl"], "language": "rus"}), tmp_path)


def test_a_folder_means_its_files(texts, run_stage, tmp_path) -> None:
    shards = tmp_path / "shards"
    (shards / "more").mkdir(parents=True)
    write(shards / "b.jsonl", texts["ru"][:30])
    write(shards / "more" / "a.jsonl", texts["ru"][30:60])
    run_stage(collect({"files": [shards]}), tmp_path / "out")
    assert set(read_corpus(tmp_path / "out")) == set(texts["ru"][:60])


def test_a_data_set_is_read_by_its_splits(texts, run_stage, tmp_path) -> None:
    folder = dataset(tmp_path / "set", train=[*texts["ru"][:60], None], test=texts["ru"][100:120])
    result = run_stage(collect({"dataset": str(folder), "text_field": "body"}), tmp_path / "out").languages["ru"]
    assert set(read_corpus(tmp_path / "out")) == set(texts["ru"][:60])
    assert result.dropped["no text in 'body'"] == 1
    run_stage(
        collect({"dataset": folder, "text_field": "body", "split": "test"}, heldout_fraction=0.5), tmp_path / "test"
    )
    assert set(read_corpus(tmp_path / "test")) == set(texts["ru"][100:120])


def test_a_data_set_in_a_folder_is_an_input_and_one_on_the_hub_a_setting(texts, make_artifact, tmp_path) -> None:
    folder = dataset(tmp_path / "set", train=texts["ru"][:60])
    settings_of_folder = collect({"dataset": str(folder), "text_field": "body"})
    assert get_input_paths(settings_of_folder) == {"sources.ru.dataset": folder}
    assert map_paths(settings_of_folder, lambda path: path) == settings_of_folder
    first = make_artifact(settings_of_folder, tmp_path / "out").fingerprint
    dataset(folder, train=texts["ru"][:61])
    assert make_artifact(settings_of_folder, tmp_path / "again").fingerprint != first
    assert get_input_paths(collect({"dataset": "owner/name", "revision": "abc"})) == {}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "give either files or dataset"),
        ({"files": []}, "give either files or dataset"),
        ({"files": ["a.txt"], "dataset": "owner/name"}, "give either files or dataset"),
        ({"files": ["a.txt"], "split": "train"}, "name, split and revision belong to dataset"),
        ({"dataset": "texts/of/mine"}, "texts/of/mine is neither an existing folder nor an id on the hub"),
        ({"dataset": "."} | {"revision": "main"}, "revision belongs to a data set on the hub"),
    ],
)
def test_a_source_is_files_or_a_data_set(source: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        collect(source)


def test_reading_stops_at_the_limit(texts, run_stage, tmp_path) -> None:
    source = {"files": [write(tmp_path / "a.jsonl", sorted(set(texts["ru"])))], "max_characters": 3000}
    result = run_stage(collect(source), tmp_path / "out").languages["ru"]
    assert 3000 <= result.characters_train + result.characters_heldout < 3200


def test_progress_ends_at_the_size_of_the_files(texts, run_stage, tmp_path) -> None:
    """Packed text is longer than its file, and counts no more than it."""
    files = [write(tmp_path / "a.jsonl", texts["ru"][:50]), tmp_path / "b.jsonl.gz"]
    files[1].write_bytes(gzip.compress(write(tmp_path / "c.jsonl", texts["ru"] * 3).read_bytes()))
    reports: list[Any] = []
    set_listener(SimpleNamespace(begin=lambda *a: reports.append(a), advance=reports.append, end=lambda: None))  # type: ignore[arg-type]
    run_stage(collect({"files": files}), tmp_path / "out")
    size = sum(file.stat().st_size for file in files)
    assert reports[0] == ("collect ru", size, "bytes", 0) and sum(reports[1:]) == size


def test_too_little_text_says_what_was_dropped(make_artifact, tmp_path) -> None:
    with pytest.raises(
        DataError, match=r"ru: 0 training and 0 held-out documents are left of 1 \(dropped: \{'too short': 1\}\)"
    ):
        make_artifact(settings(write(tmp_path / "a.jsonl", ["мало"])), tmp_path / "out")
    assert not (tmp_path / "out").exists()
